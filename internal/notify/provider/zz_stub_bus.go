package provider

func nats() Type { return notBuilt("nats") }
