package component

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/pflag"

	"github.com/seed-79636ae9/flux/toolkit/artifact"
)

// lockWait is how long a starting process waits for the one it replaces to leave the storage.
const lockWait = 30 * time.Second

// Storage is where a component keeps and serves its artifacts, with the flags that say so (wire.md 14). Components of one
// process may share a directory, which then is one store, and an address, which then is one server: what the flags of the
// second leave open is as the first has it.
type Storage struct {
	path, addr, advertised *pflag.Flag
	retentionTTL           time.Duration
	retentionRecords       int
	digest                 string

	dir    string
	url    string
	store  *artifact.Store
	shared bool // another component opened the store
	served bool // another component serves it
}

// BindFlags declares the flags. The variables of the environment are 2.9's.
func (s *Storage) BindFlags(fs *pflag.FlagSet) {
	fs.String("storage-path", fromEnv("STORAGE_PATH", "/data"), "The local storage path.")
	fs.String("storage-addr", fromEnv("STORAGE_ADDRESS", ":9090"), "The address the artifact server listens on.")
	fs.String("storage-adv-addr", os.Getenv("STORAGE_ADV_ADDR"), "The advertised address of the artifact server.")
	s.path, s.addr, s.advertised = fs.Lookup("storage-path"), fs.Lookup("storage-addr"), fs.Lookup("storage-adv-addr")
	fs.DurationVar(&s.retentionTTL, "artifact-retention-ttl", time.Minute, "How long a replaced artifact is kept.")
	fs.IntVar(&s.retentionRecords, "artifact-retention-records", 2, "How many artifacts of an object are kept.")
	fs.StringVar(&s.digest, "artifact-digest-algo", string(artifact.SHA256), "The algorithm of artifact digests: sha256, sha384, sha512 or blake3.")
}

func fromEnv(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

// Open opens the store, or shares that of another component of the process. Call it in Prepare.
func (s *Storage) Open(host *Host) error {
	algo, err := artifact.ParseAlgo(s.digest)
	if err != nil {
		return fmt.Errorf("--artifact-digest-algo: %w", err)
	}
	if len(host.Storages) > 0 {
		s.follow(host.Storages[0])
	}
	if s.dir, err = filepath.Abs(s.path.Value.String()); err != nil {
		return fmt.Errorf("--%s: %w", s.path.Name, err)
	}
	if s.url, err = s.advertise(); err != nil {
		return err
	}
	for _, other := range host.Storages {
		sameDir, sameAddr := other.dir == s.dir, other.addr.Value.String() == s.addr.Value.String()
		if sameAddr && !sameDir {
			return fmt.Errorf("--%s=%s is also the address of --%s, which serves another directory: choose another address, or the same path for both",
				s.addr.Name, s.addr.Value, other.path.Name)
		}
		if sameDir {
			s.store, s.shared, s.served = other.store, true, s.served || sameAddr
		}
	}
	if s.store == nil {
		s.store, err = artifact.OpenStore(s.dir, artifact.StoreOptions{
			AdvertisedAddr: s.url, Digest: algo, RetentionTTL: s.retentionTTL, RetentionRecords: s.retentionRecords, LockWait: lockWait,
		})
		if err != nil {
			return fmt.Errorf("opening the artifact storage: %w", err)
		}
	}
	host.Storages = append(host.Storages, s)
	return nil
}

// follow takes over from the first storage of the process what was not said about this one. A directory of its own has
// nothing in common with it, an address of its own is not advertised like the other.
func (s *Storage) follow(first *Storage) {
	for _, pair := range [][2]*pflag.Flag{{s.path, first.path}, {s.addr, first.addr}, {s.advertised, first.advertised}} {
		if pair[0].Changed {
			return
		}
		// The flags are texts: what one holds, the other can.
		_ = pair[0].Value.Set(pair[1].Value.String())
	}
}

// advertise returns the address for URLs.
func (s *Storage) advertise() (string, error) {
	if v := s.advertised.Value.String(); v != "" {
		return v, nil
	}
	hostname := os.Getenv("HOSTNAME")
	if hostname == "" {
		var err error
		if hostname, err = os.Hostname(); err != nil {
			return "", fmt.Errorf("finding the advertised address of artifacts: %w", err)
		}
	}
	addr, err := artifact.AdvertisedAddr(s.addr.Value.String(), hostname)
	if err != nil {
		return "", fmt.Errorf("--%s: %w", s.addr.Name, err)
	}
	return addr, nil
}

// Dir is the directory of the open store.
func (s *Storage) Dir() string { return s.dir }

// Store is the open store.
func (s *Storage) Store() *artifact.Store { return s.store }

// Algo is the algorithm of the digests of new artifacts.
func (s *Storage) Algo() artifact.Algo { return artifact.Algo(s.digest) }

// URL is the address of a path of the store, as this component advertises it.
func (s *Storage) URL(path string) string { return "http://" + s.url + "/" + path }

// Serving returns what Server asks for: nothing where another component serves the same at the same address.
func (s *Storage) Serving() []Endpoint {
	if s.served {
		return nil
	}
	return []Endpoint{{Flag: s.addr.Name, Addr: s.addr.Value.String(), Handler: s.store.Handler(), Server: artifact.Server}}
}

// Close lets another process have the directory.
func (s *Storage) Close() error {
	if s.store == nil || s.shared {
		return nil
	}
	return s.store.Close()
}
