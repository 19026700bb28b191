// Package guard keeps connections that users ask for away from addresses that are not theirs.
package guard

import (
	"fmt"
	"net/netip"
	"syscall"
)

// Error is an address that is not connected to.
type Error struct{ Address string }

// Error implements error.
func (e *Error) Error() string {
	return fmt.Sprintf("the address %s is refused: it belongs to the machine or its cloud", e.Address)
}

// IsMetadata reports whether clouds answer at the address about the machine, with its credentials: the link-local addresses, and those
// that AWS uses in IPv6.
func IsMetadata(ip netip.Addr) bool {
	ip = ip.Unmap()
	return ip.IsLinkLocalUnicast() || ip == netip.MustParseAddr("fd00:ec2::254") || ip == netip.MustParseAddr("fd00:ec2::23")
}

// Control is the Control of a net.Dialer for addresses that users have written: it refuses, with an *Error, those of IsMetadata. It sees
// the address that a name has led to.
func Control(_, address string, _ syscall.RawConn) error {
	target, err := netip.ParseAddrPort(address)
	if err == nil && IsMetadata(target.Addr()) {
		return &Error{target.Addr().Unmap().String()}
	}
	return nil
}
