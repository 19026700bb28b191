package supervisor

import (
	"os/exec"
	"runtime"
	"syscall"
)

const selfExecutable = "/proc/self/exe"

// spawner starts processes from one thread that lives as long as this process: Linux sends a child its parent-death signal when the
// thread that started it ends, and the Go runtime ends threads as it likes.
type spawner struct {
	requests chan func()
}

func newSpawner() *spawner {
	s := &spawner{requests: make(chan func())}
	go func() {
		runtime.LockOSThread()
		for request := range s.requests {
			request()
		}
		// Ending the goroutine would end its locked thread, and with it the children.
		select {}
	}()
	return s
}

func (s *spawner) start(cmd *exec.Cmd, onDeath syscall.Signal) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = onDeath
	result := make(chan error, 1)
	s.requests <- func() { result <- cmd.Start() }
	return <-result
}
