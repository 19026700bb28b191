package provider

import "fmt"

func notBuilt(name string) Type {
	return Type{Name: name, New: func(Config) (Notifier, error) { return nil, fmt.Errorf("type '%s' is not built yet", name) }}
}
