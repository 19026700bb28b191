package provider

func googlePubSub() Type { return notBuilt("googlepubsub") }

func azureEventHub() Type { return notBuilt("azureeventhub") }

func nats() Type { return notBuilt("nats") }

func otel() Type { return notBuilt("otel") }

func sentry() Type { return notBuilt("sentry") }
