package guard

import (
	"errors"
	"net"
	"testing"
)

// reliability 048: the addresses at which clouds hand out credentials are not called.
func TestControl(t *testing.T) {
	for address, refused := range map[string]bool{
		"169.254.169.254:80": true, "169.254.0.1:443": true, "169.254.170.23:80": true, "[fe80::1]:80": true, "[::ffff:169.254.169.254]:80": true,
		"[fd00:ec2::254]:80": true, "[fd00:ec2::23]:80": true,
		"127.0.0.1:80": false, "10.0.0.1:443": false, "192.168.1.1:80": false, "[::1]:80": false, "[fd00::1]:80": false,
	} {
		_, isError := errors.AsType[*Error](Control("tcp", address, nil))
		if isError != refused {
			t.Errorf("%s is refused: %t", address, isError)
		}
	}
	_, err := (&net.Dialer{Control: Control}).Dial("tcp", "169.254.169.254:80")
	if _, ok := errors.AsType[*Error](err); !ok {
		t.Errorf("error = %v", err)
	}
}
