package ops

import (
	"context"
	"encoding/pem"
	"net"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

func TestGenerateKey(t *testing.T) {
	for _, tc := range []struct {
		options KeyOptions
		want    string
	}{
		{KeyOptions{Algorithm: "rsa", Bits: 2048}, "ssh-rsa"},
		{KeyOptions{Algorithm: "ecdsa", Curve: "p256"}, "ecdsa-sha2-nistp256"},
		{KeyOptions{Algorithm: "ecdsa", Curve: "p384"}, "ecdsa-sha2-nistp384"},
		{KeyOptions{Algorithm: "ecdsa", Curve: "p521"}, "ecdsa-sha2-nistp521"},
		{KeyOptions{Algorithm: "ed25519"}, "ssh-ed25519"},
	} {
		t.Run(tc.want, func(t *testing.T) {
			pair, err := GenerateKey(tc.options)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(string(pair.Public), tc.want+" ") {
				t.Errorf("public key is %q, want %s", pair.Public, tc.want)
			}
			again, err := ParseKey(pair.Private, "")
			if err != nil {
				t.Fatal(err)
			}
			if string(again.Public) != string(pair.Public) {
				t.Errorf("the private key belongs to %q, not %q", again.Public, pair.Public)
			}
		})
	}
	for _, o := range []KeyOptions{{Algorithm: "dsa"}, {Algorithm: "ecdsa", Curve: "p1"}} {
		if _, err := GenerateKey(o); err == nil {
			t.Errorf("GenerateKey(%v) succeeds", o)
		}
	}
}

func TestParseKey(t *testing.T) {
	pair, err := GenerateKey(KeyOptions{Algorithm: "ed25519"})
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.ParseRawPrivateKey(pair.Private)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKeyWithPassphrase(key, "", []byte("open sesame"))
	if err != nil {
		t.Fatal(err)
	}
	locked := pem.EncodeToMemory(block)
	if _, err := ParseKey(locked, ""); err == nil || !strings.Contains(err.Error(), "--password") {
		t.Errorf("a locked key without passphrase gives %v", err)
	}
	if _, err := ParseKey(locked, "wrong"); err == nil {
		t.Error("a wrong passphrase is accepted")
	}
	got, err := ParseKey(locked, "open sesame")
	if err != nil || string(got.Public) != string(pair.Public) {
		t.Errorf("ParseKey = %v, %v", got, err)
	}
	if _, err := ParseKey([]byte("no key"), ""); err == nil {
		t.Error("text is accepted as a key")
	}
}

// serveSSH answers handshakes with a host key until the test ends.
func serveSSH(t *testing.T) (address string, key ssh.PublicKey) {
	t.Helper()
	pair, err := GenerateKey(KeyOptions{Algorithm: "ed25519"})
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.ParsePrivateKey(pair.Private)
	if err != nil {
		t.Fatal(err)
	}
	config := &ssh.ServerConfig{NoClientAuth: true}
	config.AddHostKey(signer)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _, _, _ = ssh.NewServerConn(conn, config)
			}()
		}
	}()
	return l.Addr().String(), signer.PublicKey()
}

func TestScanHostKey(t *testing.T) {
	address, key := serveSSH(t)
	line, err := ScanHostKey(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	_, hosts, got, _, _, err := ssh.ParseKnownHosts(line)
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(address)
	if want := "[127.0.0.1]:" + port; len(hosts) != 1 || hosts[0] != want {
		t.Errorf("hosts = %v, want %s", hosts, want)
	}
	if string(got.Marshal()) != string(key.Marshal()) {
		t.Error("another key was collected")
	}
}

func TestScanHostKeyFails(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		// A server that accepts and then says nothing.
		conn, err := l.Accept()
		if err == nil {
			cancel()
			defer conn.Close()
			<-t.Context().Done()
		}
	}()
	if _, err := ScanHostKey(ctx, l.Addr().String()); err == nil {
		t.Error("a silent server gives a key")
	}
	if _, err := ScanHostKey(t.Context(), "127.0.0.1:1"); err == nil {
		t.Error("a closed port gives a key")
	}
}
