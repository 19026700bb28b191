//go:build !unix

package local

import (
	"errors"
	"os"
	"os/exec"
)

func supported() error {
	return errors.New("flux up runs on Linux and macOS; on Windows use it inside WSL")
}

func tryLock(*os.File) (bool, error)   { return false, supported() }
func probeLock(*os.File) (bool, error) { return false, supported() }
func waitLock(*os.File) error          { return supported() }
func freeBytes(string) (uint64, error) { return 0, supported() }
func interrupt(int) error              { return supported() }
func detach(*exec.Cmd)                 {}
func privately(*os.File)               {}
