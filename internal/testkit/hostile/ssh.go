package hostile

import (
	"fmt"
	"net"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/seed-79636ae9/flux/internal/testkit"
)

// SilentSSH lets everybody log in and run a command, and says nothing from then on.
type SilentSSH struct {
	// Addr is its host:port on loopback.
	Addr string
	// KnownHosts is the known_hosts text for it.
	KnownHosts []byte

	listener net.Listener
}

// NewSilentSSH starts the server.
func NewSilentSSH() (*SilentSSH, error) {
	key, _, err := testkit.NewSSHKey()
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listening: %w", err)
	}
	config := &ssh.ServerConfig{PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil }}
	config.AddHostKey(key)
	s := &SilentSSH{
		Addr: l.Addr().String(), listener: l, KnownHosts: []byte(knownhosts.Line([]string{l.Addr().String()}, key.PublicKey()) + "\n"),
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serveSilently(c, config)
		}
	}()
	return s, nil
}

func serveSilently(c net.Conn, config *ssh.ServerConfig) {
	defer c.Close()
	_, channels, requests, err := ssh.NewServerConn(c, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for channel := range channels {
		_, requests, err := channel.Accept()
		if err != nil {
			return
		}
		go func() {
			for r := range requests {
				_ = r.Reply(true, nil)
			}
		}()
	}
}

// Close ends the listener; connections end with their clients.
func (s *SilentSSH) Close() { s.listener.Close() }
