package provider_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/seed-79636ae9/flux/internal/notify/provider"
	"github.com/seed-79636ae9/flux/internal/notify/provider/providertest"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/toolkit/secret"
)

// natsServer starts a server and returns its URL.
func natsServer(t *testing.T, options *server.Options) string {
	t.Helper()
	options.Host, options.Port, options.NoLog, options.NoSigs = "127.0.0.1", server.RANDOM_PORT, true, true
	s, err := server.NewServer(options)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server does not start")
	}
	return "nats://" + s.Addr().String()
}

// natsConfig is a configuration without waits between tries.
func natsConfig(address string) provider.Config {
	client := provider.NewClient(http.DefaultTransport, "flux/test", providertest.Canary)
	client.Pause = func(ctx context.Context, _ time.Duration) error { return ctx.Err() }
	return provider.Config{Address: address, Channel: "flux.events", HTTP: client}
}

func publish(t *testing.T, c provider.Config) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err := made(t, "nats", c).Notify(ctx, providertest.Failed())
	if err != nil && (strings.Contains(err.Error(), providertest.Canary) || strings.Contains(err.Error(), "the-answer")) {
		t.Errorf("the error tells too much: %v", err)
	}
	return err
}

func wrong(t *testing.T, err error, words string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), words) {
		t.Errorf("error = %v, want %q in it", err, words)
	}
}

// provider 27; wire 13: the message is the event, and it is with the server when Notify returns.
func TestNATS(t *testing.T) {
	address := natsServer(t, &server.Options{})
	subscriber, err := natsgo.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	defer subscriber.Close()
	messages, err := subscriber.SubscribeSync("flux.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := subscriber.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, form := range []string{address, strings.TrimPrefix(address, "nats://"), "nats://127.0.0.1:1, " + address} {
		if err := publish(t, natsConfig(form)); err != nil {
			t.Fatal(err)
		}
		got, err := messages.NextMsg(10 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		want, err := json.Marshal(providertest.Failed())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff("flux.events "+string(want), got.Subject+" "+string(got.Data)); diff != "" {
			t.Error(diff)
		}
	}
}

// natsUser makes a key pair of a user and its seed.
func natsUser(t *testing.T) (nkeys.KeyPair, string, []byte) {
	t.Helper()
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	return pair, public, seed
}

// credentials makes a server that trusts an operator, and the credentials file of one of its users.
func credentials(t *testing.T) (string, []byte) {
	t.Helper()
	pair := func(create func() (nkeys.KeyPair, error)) (nkeys.KeyPair, string) {
		key, err := create()
		if err != nil {
			t.Fatal(err)
		}
		public, err := key.PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		return key, public
	}
	operatorKey, operator := pair(nkeys.CreateOperator)
	accountKey, account := pair(nkeys.CreateAccount)
	_, user, seed := natsUser(t)
	operatorClaims, accountClaims, userClaims := jwt.NewOperatorClaims(operator), jwt.NewAccountClaims(account), jwt.NewUserClaims(user)
	sign := func(claims jwt.Claims, with nkeys.KeyPair) string {
		signed, err := claims.Encode(with)
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	trusted, err := jwt.DecodeOperatorClaims(sign(operatorClaims, operatorKey))
	if err != nil {
		t.Fatal(err)
	}
	resolver := &server.MemAccResolver{}
	if err := resolver.Store(account, sign(accountClaims, operatorKey)); err != nil {
		t.Fatal(err)
	}
	creds, err := jwt.FormatUserConfig(sign(userClaims, accountKey), seed)
	if err != nil {
		t.Fatal(err)
	}
	return natsServer(t, &server.Options{TrustedOperators: []*jwt.OperatorClaims{trusted}, AccountResolver: resolver}), creds
}

// provider 27: a credentials file comes before an NKey, that before user name and password, and those before nothing.
func TestNATSLogin(t *testing.T) {
	_, public, seed := natsUser(t)
	_, _, stranger := natsUser(t)
	withCreds, creds := credentials(t)
	withKey := natsServer(t, &server.Options{Nkeys: []*server.NkeyUser{{Nkey: public}}})
	withPassword := natsServer(t, &server.Options{Username: "flux", Password: " " + providertest.Canary})
	const refused = "authorization violation"
	secretOf := func(pairs ...any) map[string][]byte {
		out := map[string][]byte{}
		for i := 0; i < len(pairs); i += 2 {
			out[pairs[i].(string)] = pairs[i+1].([]byte)
		}
		return out
	}
	for _, c := range []struct {
		name, address, user, password string
		secret                        map[string][]byte
		wrong                         string
	}{
		{"creds", withCreds, "u", "p", secretOf("creds", creds, "nkey", stranger), ""},
		{"no creds", withCreds, "", "", secretOf("nkey", seed), refused},
		{"nkey", withKey, "u", "p", secretOf("nkey", append(bytes.Clone(seed), '\n')), ""},
		{"another nkey", withKey, "", "", secretOf("nkey", stranger), refused},
		{"password", withPassword, "flux", " " + providertest.Canary, nil, ""},
		{"another password", withPassword, "flux", providertest.Canary, nil, refused},
		{"nkey before password", withPassword, "flux", " " + providertest.Canary, secretOf("nkey", seed), "nkeys not supported"},
		{"nothing", withPassword, "", "", nil, refused},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := natsConfig(c.address)
			config.Username, config.Password, config.Secret = c.user, c.password, c.secret
			err := publish(t, config)
			if c.wrong != "" {
				wrong(t, err, c.wrong)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

// A subject that the user may not publish to is an error, though the server tells of it only afterwards.
func TestNATSPermission(t *testing.T) {
	address := natsServer(t, &server.Options{Users: []*server.User{{
		Username: "flux", Password: "password", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Allow: []string{"other"}}},
	}}})
	config := natsConfig(address)
	config.Username, config.Password = "flux", "password"
	wrong(t, publish(t, config), "spec.channel")
	config.Channel = "other"
	if err := publish(t, config); err != nil {
		t.Error(err)
	}
}

// An event that is larger than the server takes is an error.
func TestNATSPayload(t *testing.T) {
	config := natsConfig(natsServer(t, &server.Options{MaxPayload: 64}))
	wrong(t, publish(t, config), "maximum payload")
}

// provider 7, 39: the CA of the Provider is trusted and no other, and its certificate is shown.
func TestNATSTLS(t *testing.T) {
	ca, err := testkit.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	other, err := testkit.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	serving, err := ca.ServerTLS()
	if err != nil {
		t.Fatal(err)
	}
	serving.ClientAuth, serving.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
	serving.ClientCAs.AppendCertsFromPEM(ca.PEM)
	certificate, key, err := ca.Issue("flux")
	if err != nil {
		t.Fatal(err)
	}
	address := natsServer(t, &server.Options{TLSConfig: serving, TLSTimeout: 10})
	for _, c := range []struct {
		name     string
		address  string
		material *secret.TLSMaterial
		good     bool
	}{
		{"mutual", address, &secret.TLSMaterial{CA: ca.PEM, Cert: certificate, Key: key}, true},
		{"no certificate", address, &secret.TLSMaterial{CA: ca.PEM}, false},
		{"another CA", address, &secret.TLSMaterial{CA: other.PEM, Cert: certificate, Key: key}, false},
		{"no material", address, nil, false},
		{"a server without TLS", natsServer(t, &server.Options{}), &secret.TLSMaterial{CA: ca.PEM}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := natsConfig(c.address)
			if c.material != nil {
				if config.TLS, err = c.material.Config(); err != nil {
					t.Fatal(err)
				}
			}
			if err := publish(t, config); c.good != (err == nil) {
				t.Errorf("error = %v", err)
			}
		})
	}
}

// listen serves connections on loopback until the test ends.
func listen(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	t.Cleanup(func() {
		_ = listener.Close()
		serving.Wait()
	})
	serving.Go(func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer connection.Close()
				serve(connection)
			})
		}
	})
	return listener.Addr().String()
}

// join copies both ways until one side ends.
func join(a, b net.Conn) {
	var both sync.WaitGroup
	for _, pair := range [][2]net.Conn{{a, b}, {b, a}} {
		both.Go(func() {
			_, _ = io.Copy(pair[0], pair[1])
			_, _ = pair[0].Close(), pair[1].Close()
		})
	}
	both.Wait()
}

// provider 39: proxies are gone through, with their credentials, and the server's name is theirs to resolve.
func TestNATSProxy(t *testing.T) {
	server := strings.TrimPrefix(natsServer(t, &server.Options{}), "nats://")
	var asked atomic.Value
	proxy := listen(t, func(c net.Conn) {
		reader := bufio.NewReader(c)
		request, err := http.ReadRequest(reader)
		if err != nil {
			return
		}
		asked.Store(request.Method + " " + request.RequestURI + " " + request.Header.Get("Proxy-Authorization"))
		if request.RequestURI == "forbidden:4222" {
			_, _ = io.WriteString(c, "HTTP/1.1 403 the-answer\r\nContent-Length: 0\r\n\r\n")
			return
		}
		onward, err := net.Dial("tcp", server)
		if err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n")
		join(c, onward)
	})
	through, err := url.Parse("http://u:" + providertest.Canary + "@" + proxy)
	if err != nil {
		t.Fatal(err)
	}
	config := natsConfig("nats://only.the.proxy.knows:4222")
	config.Proxy = through
	if err := publish(t, config); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff("CONNECT only.the.proxy.knows:4222 Basic dTpjNG40cnktczNjcjN0", asked.Load()); diff != "" {
		t.Error(diff)
	}
	config.Address = "forbidden"
	wrong(t, publish(t, config), "status code 403")
	config.Proxy = &url.URL{Scheme: "gopher", Host: proxy}
	wrong(t, publish(t, config), "use http, https or socks5")
}

// provider 52: a server that was away for a moment is told all the same.
func TestNATSRetries(t *testing.T) {
	server := strings.TrimPrefix(natsServer(t, &server.Options{}), "nats://")
	var tries atomic.Int32
	address := listen(t, func(c net.Conn) {
		if tries.Add(1) == 1 {
			return
		}
		onward, err := net.Dial("tcp", server)
		if err != nil {
			return
		}
		join(c, onward)
	})
	if err := publish(t, natsConfig(address)); err != nil {
		t.Error(err)
	}
	if got := tries.Load(); got != 2 {
		t.Errorf("%d tries", got)
	}
}

// Servers that are none, and those that mean no good.
func TestNATSStrangers(t *testing.T) {
	const info = `INFO {"server_id":"x","version":"2.14.0","max_payload":1048576}` + "\r\n"
	for _, c := range []struct {
		name  string
		serve func(net.Conn)
		words string
	}{
		{"hangs", func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }, "in time"},
		{"another protocol", func(c net.Conn) { _, _ = io.WriteString(c, "220 the-answer ESMTP\r\n") }, "NATS"},
		{"an endless line", func(c net.Conn) {
			for err := error(nil); err == nil; {
				_, err = c.Write(bytes.Repeat([]byte("x"), 64<<10))
			}
		}, "NATS"},
		{"an error of its own", func(c net.Conn) {
			_, _ = io.WriteString(c, info)
			_, _ = bufio.NewReader(c).ReadString('\n')
			_, _ = io.WriteString(c, "-ERR 'the-answer'\r\n")
			_, _ = io.Copy(io.Discard, c)
		}, "refused"},
		{"goes away after all", func(c net.Conn) {
			_, _ = io.WriteString(c, info)
			reader := bufio.NewReader(c)
			for range 2 {
				_, _ = reader.ReadString('\n')
			}
			_, _ = io.WriteString(c, "PONG\r\n")
			_, _ = reader.ReadString('\n')
		}, "connection"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			err := made(t, "nats", natsConfig(listen(t, c.serve))).Notify(ctx, providertest.Failed())
			wrong(t, err, c.words)
			if err != nil && strings.Contains(err.Error(), "the-answer") {
				t.Errorf("the error repeats the server: %v", err)
			}
		})
	}
	wrong(t, publish(t, natsConfig("nats://169.254.169.254:4222")), "169.254.169.254")
}

// provider 27
func TestNATSRefuses(t *testing.T) {
	good := provider.Config{Address: "nats://server", Channel: "flux"}
	with := func(change func(*provider.Config)) provider.Config {
		c := good
		change(&c)
		return c
	}
	refuses(t, "nats", with(func(c *provider.Config) { c.Address = "" }), "spec.address", "nats://")
	const canary = providertest.Canary
	for _, address := range []string{"https://" + canary, "nats://", "nats://a,%zz" + canary, "nats://a,", "nats://a:x" + canary} {
		refuses(t, "nats", with(func(c *provider.Config) { c.Address = address }), "spec.address", "nats://")
	}
	for _, channel := range []string{"", "flux events", "flux\r\nPUB x"} {
		refuses(t, "nats", with(func(c *provider.Config) { c.Channel = channel }), "spec.channel", "subject")
	}
	_, _, seed := natsUser(t)
	refuses(t, "nats", with(func(c *provider.Config) { c.Secret = map[string][]byte{"nkey": []byte(providertest.Canary)} }), "nkey", "SU")
	refuses(t, "nats", with(func(c *provider.Config) { c.Secret = map[string][]byte{"creds": []byte("\n")} }), "creds")
	refuses(t, "nats", with(func(c *provider.Config) { c.Secret = map[string][]byte{"creds": seed} }), "creds")
}
