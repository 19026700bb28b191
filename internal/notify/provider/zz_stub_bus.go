package provider

func googlePubSub() Type { return notBuilt("googlepubsub") }

func azureEventHub() Type { return notBuilt("azureeventhub") }

func nats() Type { return notBuilt("nats") }
