package local

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// Locate returns the data directory that a user means: the one named, or that of the environment of directory or of the nearest
// directory above. It returns *ErrNoEnvironment.
func (p Places) Locate(directory, named string) (string, error) {
	if named == "" {
		return p.Find(directory)
	}
	data, err := filepath.Abs(named)
	if err != nil {
		return "", fmt.Errorf("resolve the data directory: %w", err)
	}
	if !isHome(data) {
		return "", &ErrNoEnvironment{Directory: data, Others: p.running()}
	}
	return data, nil
}

// Down stops the environment of a data directory, waits until every process is gone, and removes the data. Data that was to be kept
// stays unless remove is true. It returns the state from before, and whether data is left.
func Down(ctx context.Context, places Places, data string, remove bool) (state State, left bool, err error) {
	if err := supported(); err != nil {
		return state, false, err
	}
	state, live, err := Read(data)
	if err != nil {
		return state, true, err
	}
	if live {
		if err := terminate(ctx, data); err != nil {
			return state, true, err
		}
	}
	if isHome(data) && (remove || !state.Keep) {
		if err := removeHome(ctx, data); err != nil {
			return state, true, err
		}
	}
	if isHome(data) {
		return state, true, nil
	}
	places.unlink(state.Directory)
	return state, false, nil
}

// removeHome removes the data of an environment that does not run.
func removeHome(ctx context.Context, data string) error {
	file, err := lock(data)
	if err != nil {
		return err
	}
	defer file.Close()
	mark, err := readMarker(file)
	if err != nil {
		return fmt.Errorf("read %s: %w", file.Name(), err)
	}
	if self, err := os.Executable(); err == nil {
		// Without the program nothing can be asked, but then nothing of it can be running for long either.
		if program, err := findCluster(os.Getenv, self); err == nil {
			if err := settleCluster(ctx, program, filepath.Join(data, clusterDir)); err != nil {
				return err
			}
		}
	}
	h := &home{dir: data, mark: mark, file: file}
	return h.remove()
}
