// Package trust makes and keeps the secrets of one cluster: its certificate authority, the API server's certificate, the key that signs
// service account tokens, and the bearer tokens of its users.
package trust

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Names of the users of a cluster. Every part has its own, so that an audit log tells them apart.
const (
	Admin       = "admin"
	Viewer      = "viewer"
	Controllers = "system:kube-controller-manager"
	Simulator   = "flux-cluster:simulator"
)

// Files below the directory given to Ensure.
const (
	CAFile             = "ca.crt"
	caKeyFile          = "ca.key"
	ServerCertFile     = "server.crt"
	ServerKeyFile      = "server.key"
	ServiceAccountFile = "service-account.key"
	TokensFile         = "tokens.csv"
)

const (
	authorityLife = 10 * 365 * 24 * time.Hour
	serverLife    = 365 * 24 * time.Hour
)

// Bundle is what clients and servers of one cluster need. Tokens are by user name.
type Bundle struct {
	CA     []byte // PEM
	Tokens map[string]string
}

// Ensure reads the secrets below dir and makes those that are missing. The API server's certificate is made anew each time, valid for
// a year from now, for the loopback addresses and the names in names; the rest stays for the life of the data. Files are written with
// mode 0600.
func Ensure(dir string, names []string, now time.Time) (*Bundle, error) {
	ca, caKey, err := authority(dir, now)
	if err != nil {
		return nil, fmt.Errorf("certificate authority: %w", err)
	}
	if err := serverCert(dir, ca, caKey, names, now); err != nil {
		return nil, fmt.Errorf("server certificate: %w", err)
	}
	if _, err := key(filepath.Join(dir, ServiceAccountFile)); err != nil {
		return nil, fmt.Errorf("service account key: %w", err)
	}
	tokens, err := tokens(filepath.Join(dir, TokensFile))
	if err != nil {
		return nil, fmt.Errorf("tokens: %w", err)
	}
	return &Bundle{CA: encode("CERTIFICATE", ca.Raw), Tokens: tokens}, nil
}

func authority(dir string, now time.Time) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	caKey, err := key(filepath.Join(dir, caKeyFile))
	if err != nil {
		return nil, nil, err
	}
	path := filepath.Join(dir, CAFile)
	data, err := os.ReadFile(path)
	if err == nil {
		block, _ := pem.Decode(data)
		if block == nil {
			return nil, nil, fmt.Errorf("%s holds no certificate", path)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		return cert, caKey, err
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, nil, err
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "flux-cluster"},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.Add(authorityLife),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
	}
	cert, err := sign(template, template, &caKey.PublicKey, caKey)
	if err != nil {
		return nil, nil, err
	}
	return cert, caKey, write(path, encode("CERTIFICATE", cert.Raw))
}

func serverCert(dir string, ca *x509.Certificate, caKey *ecdsa.PrivateKey, names []string, now time.Time) error {
	serverKey, err := key(filepath.Join(dir, ServerKeyFile))
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "kube-apiserver"},
		NotBefore:   now.Add(-time.Hour),
		NotAfter:    now.Add(serverLife),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		DNSNames:    []string{"localhost"},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	cert, err := sign(template, ca, &serverKey.PublicKey, caKey)
	if err != nil {
		return err
	}
	return write(filepath.Join(dir, ServerCertFile), encode("CERTIFICATE", cert.Raw))
}

func sign(template, parent *x509.Certificate, public *ecdsa.PublicKey, signer *ecdsa.PrivateKey) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// key reads the private key at path, or makes one.
func key(path string) (*ecdsa.PrivateKey, error) {
	data, err := os.ReadFile(path)
	if err == nil {
		block, _ := pem.Decode(data)
		if block == nil {
			return nil, fmt.Errorf("%s holds no key", path)
		}
		return x509.ParseECPrivateKey(block.Bytes)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	made, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalECPrivateKey(made)
	if err != nil {
		return nil, err
	}
	return made, write(path, encode("EC PRIVATE KEY", der))
}

// groups gives each user its groups in the API server's token file. Only the viewer and the simulator go through RBAC: the controllers
// act for every controller at once, which no predefined role covers.
func groups() map[string]string {
	return map[string]string{
		Admin:       "system:masters",
		Controllers: "system:masters",
		Simulator:   "",
		Viewer:      "",
	}
}

// tokens reads the API server's token file (token,user,uid,"groups") at path, or makes one.
func tokens(path string) (map[string]string, error) {
	found := map[string]string{}
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	for line := range strings.Lines(string(data)) {
		if fields := strings.Split(strings.TrimSpace(line), ","); len(fields) >= 3 {
			found[fields[1]] = fields[0]
		}
	}
	var out bytes.Buffer
	for _, user := range []string{Admin, Controllers, Simulator, Viewer} {
		if found[user] == "" {
			secret := make([]byte, 32)
			if _, err := rand.Read(secret); err != nil {
				return nil, err
			}
			found[user] = hex.EncodeToString(secret)
		}
		fmt.Fprintf(&out, "%s,%s,%s", found[user], user, user)
		if group := groups()[user]; group != "" {
			fmt.Fprintf(&out, ",%s", group)
		}
		out.WriteByte('\n')
	}
	return found, write(path, out.Bytes())
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func write(path string, data []byte) error {
	return os.WriteFile(path, data, 0o600)
}
