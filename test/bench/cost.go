package main

import "github.com/seed-79636ae9/flux/internal/testkit"

// ticks per second of the times in /proc: USER_HZ, which is 100 on every Linux that Go runs on.
const ticks = 100

// cost is what API server and process have used so far, in seconds of processor time.
type cost struct{ server, own float64 }

// cost reads the processor times of the API server and of the process.
func (l *lab) cost() (c cost, err error) {
	state, err := testkit.ReadState(l.plane.Dir)
	if err != nil {
		return c, err
	}
	if c.server, err = cpu(state.Parts["kube-apiserver"].PID); err != nil {
		return c, err
	}
	c.own, err = cpu(l.sut.PID())
	return c, err
}

func (c cost) since(before cost) cost {
	return cost{server: c.server - before.server, own: c.own - before.own}
}
