package replay

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
)

// recordedRegistry is where the recorder's registry was. Files of commits name it, so that the hashes of the commits, which are
// recorded, depend on it.
const recordedRegistry = "127.0.0.1:5999"

// showRegistry shows the registry of the lab at that address, until the server is closed.
func showRegistry(host string) (*http.Server, error) {
	listener, err := net.Listen("tcp", recordedRegistry)
	if err != nil {
		return nil, fmt.Errorf("listening where the recorder's registry was: %w", err)
	}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: host})
	proxy.ErrorLog = log.New(io.Discard, "", 0)
	server := &http.Server{Handler: proxy, ErrorLog: proxy.ErrorLog}
	go func() { _ = server.Serve(listener) }()
	return server, nil
}
