package local

import (
	"fmt"
	"net"
	"strconv"
)

// ErrPortTaken says that a port that the user asked for is in use.
type ErrPortTaken struct {
	Port int
	Flag string
}

func (e *ErrPortTaken) Error() string {
	return fmt.Sprintf("port %d on %s is taken: choose another with --%s, or leave it out for a free one", e.Port, loopback, e.Flag)
}

func address(port int) string { return net.JoinHostPort(loopback, strconv.Itoa(port)) }

// listen opens the listeners of our own servers, and finds ports for those that the controllers will open. A port asked for must be
// free; one that an earlier life had is taken again if it is free, since URLs with it are in the cluster and in the clone.
func (e *environment) listen() (Ports, net.Listener, net.Listener, error) {
	ports, earlier := e.Ports, e.Earlier
	git, err := listenOn(&ports.Git, earlier.Git, "git-port")
	if err != nil {
		return ports, nil, nil, err
	}
	registry, err := listenOn(&ports.Registry, earlier.Registry, "registry-port")
	if err != nil {
		_ = git.Close()
		return ports, nil, nil, err
	}
	var probes []net.Listener
	for _, p := range []struct {
		port    *int
		earlier int
	}{{&ports.Artifacts, earlier.Artifacts}, {&ports.Metrics, earlier.Metrics}, {&ports.Health, earlier.Health}, {&ports.Hooks, earlier.Hooks}} {
		probe, portErr := listenOn(p.port, p.earlier, "")
		if portErr != nil {
			err = portErr
			break
		}
		probes = append(probes, probe)
	}
	// All at once, so that no port is found twice.
	for _, probe := range probes {
		_ = probe.Close()
	}
	if err != nil {
		_, _ = git.Close(), registry.Close()
		return ports, nil, nil, err
	}
	return ports, git, registry, nil
}

// listenOn listens on *port, or the earlier one, or a free one, and sets *port.
func listenOn(port *int, earlier int, flag string) (net.Listener, error) {
	if *port != 0 {
		l, err := net.Listen("tcp4", address(*port))
		if err != nil {
			return nil, &ErrPortTaken{Port: *port, Flag: flag}
		}
		return l, nil
	}
	l, err := net.Listen("tcp4", address(earlier))
	if err != nil && earlier != 0 {
		l, err = net.Listen("tcp4", address(0))
	}
	if err != nil {
		return nil, fmt.Errorf("find a free port: %w", err)
	}
	*port = l.Addr().(*net.TCPAddr).Port
	return l, nil
}
