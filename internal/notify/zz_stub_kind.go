package notify

import "github.com/seed-79636ae9/flux/internal/kind"

func ReceiverKind() kind.Kind      { return kind.Receiver() }
func AlertProviderKind() kind.Kind { return kind.AlertProvider() }
func AlertKind() kind.Kind         { return kind.Alert() }
