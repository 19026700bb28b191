package testkit

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// GitSSHServer serves bare repositories over SSH, pushes included, to the
// holder of one client key.
type GitSSHServer struct {
	// URL is the base of the repositories: ssh://git@127.0.0.1:port.
	URL string
	// Identity is the PEM of the client key that may log in.
	Identity []byte
	// KnownHosts is the known_hosts text for the server's host keys.
	KnownHosts []byte
	// Root is the directory of the repositories.
	Root string

	listener net.Listener
	mu       sync.Mutex
	commands []string     // guarded by mu
	hostKeys []ssh.Signer // guarded by mu
}

// SSHServerOptions changes a GitSSHServer.
type SSHServerOptions struct {
	// HostKeys are the keys of the server, one ed25519 key unless given.
	HostKeys []ssh.Signer
	// Config is the protocol configuration, for example to limit algorithms.
	Config ssh.Config
}

// NewGitSSHServer starts a server of the repositories below root on a free
// port of 127.0.0.1.
func NewGitSSHServer(root string, o SSHServerOptions) (*GitSSHServer, error) {
	if len(o.HostKeys) == 0 {
		host, _, err := NewSSHKey()
		if err != nil {
			return nil, err
		}
		o.HostKeys = []ssh.Signer{host}
	}
	client, identity, err := NewSSHKey()
	if err != nil {
		return nil, err
	}
	config := &ssh.ServerConfig{
		Config: o.Config,
		PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			if !bytes.Equal(key.Marshal(), client.PublicKey().Marshal()) {
				return nil, errors.New("unknown key")
			}
			return nil, nil
		},
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listening for git clients over SSH: %w", err)
	}
	address := listener.Addr().String()
	s := &GitSSHServer{URL: "ssh://git@" + address, Identity: identity, Root: root, listener: listener}
	s.SetHostKeys(o.HostKeys...)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			own := *config
			s.mu.Lock()
			for _, key := range s.hostKeys {
				own.AddHostKey(key)
			}
			s.mu.Unlock()
			go s.serve(conn, &own)
		}
	}()
	return s, nil
}

// SetHostKeys replaces the keys of the server for new connections, and KnownHosts.
func (s *GitSSHServer) SetHostKeys(keys ...ssh.Signer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hostKeys, s.KnownHosts = keys, nil
	for _, key := range keys {
		s.KnownHosts = append(s.KnownHosts, knownhosts.Line([]string{s.listener.Addr().String()}, key.PublicKey())+"\n"...)
	}
}

// Close stops accepting connections.
func (s *GitSSHServer) Close() { _ = s.listener.Close() }

// Commands returns what clients asked the server to execute, word for word.
func (s *GitSSHServer) Commands() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.commands...)
}

// NewSSHKey makes an ed25519 key and returns it with its PEM.
func NewSSHKey() (ssh.Signer, []byte, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("making an SSH key: %w", err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("making an SSH key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		return nil, nil, fmt.Errorf("making an SSH key: %w", err)
	}
	return signer, pem.EncodeToMemory(block), nil
}

func (s *GitSSHServer) serve(conn net.Conn, config *ssh.ServerConfig) {
	sc, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		_ = conn.Close()
		return
	}
	defer func() { _ = sc.Close() }()
	go ssh.DiscardRequests(requests)
	for c := range channels {
		if c.ChannelType() != "session" {
			_ = c.Reject(ssh.UnknownChannelType, "only sessions are served")
			continue
		}
		channel, requests, err := c.Accept()
		if err != nil {
			return
		}
		go s.session(channel, requests)
	}
}

func (s *GitSSHServer) session(channel ssh.Channel, requests <-chan *ssh.Request) {
	defer func() { _ = channel.Close() }()
	for r := range requests {
		var payload struct{ Command string }
		if r.Type != "exec" || ssh.Unmarshal(r.Payload, &payload) != nil {
			_ = r.Reply(false, nil)
			continue
		}
		_ = r.Reply(true, nil)
		s.mu.Lock()
		s.commands = append(s.commands, payload.Command)
		s.mu.Unlock()
		status := struct{ Status uint32 }{s.run(channel, payload.Command)}
		_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(status))
		return
	}
}

func (s *GitSSHServer) run(channel ssh.Channel, command string) uint32 {
	name, quoted, _ := strings.Cut(command, " ")
	path, ok := unquote(quoted)
	if name != "git-upload-pack" && name != "git-receive-pack" || !ok {
		_, _ = io.WriteString(channel.Stderr(), "ERROR: command not allowed\n")
		return 1
	}
	dir := filepath.Join(s.Root, filepath.FromSlash(filepath.Clean("/"+path)))
	cmd, err := gitService(name, dir)
	if err != nil {
		return 1
	}
	cmd.Stdout, cmd.Stderr = channel, channel.Stderr()
	// Not cmd.Stdin: Wait would wait for a client that never closes its side.
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return 1
	}
	if err := cmd.Start(); err != nil {
		return 1
	}
	go func() {
		_, _ = io.Copy(stdin, channel)
		_ = stdin.Close()
	}()
	if err := cmd.Wait(); err != nil {
		return 128
	}
	return 0
}

// unquote reads one argument quoted for a POSIX shell with single quotes.
func unquote(s string) (string, bool) {
	if len(s) < 2 || s[0] != '\'' || s[len(s)-1] != '\'' {
		return "", false
	}
	s = strings.ReplaceAll(s[1:len(s)-1], `'\''`, "\x00")
	if strings.Contains(s, "'") {
		return "", false
	}
	return strings.ReplaceAll(s, "\x00", "'"), true
}
