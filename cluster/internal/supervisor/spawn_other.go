//go:build unix && !linux

package supervisor

import (
	"os/exec"
	"syscall"
)

const selfExecutable = ""

// spawner starts processes. Where the system sends no signal at the death of a parent, children rely on their lifeline alone.
type spawner struct{}

func newSpawner() *spawner { return &spawner{} }

func (*spawner) start(cmd *exec.Cmd, _ syscall.Signal) error { return cmd.Start() }
