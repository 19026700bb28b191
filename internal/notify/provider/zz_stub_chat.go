package provider

func slack() Type { return notBuilt("slack") }

func discord() Type { return notBuilt("discord") }

func msteams() Type { return notBuilt("msteams") }

func rocket() Type { return notBuilt("rocket") }

func googleChat() Type { return notBuilt("googlechat") }

func webex() Type { return notBuilt("webex") }

func telegram() Type { return notBuilt("telegram") }

func lark() Type { return notBuilt("lark") }

func matrix() Type { return notBuilt("matrix") }

func zulip() Type { return notBuilt("zulip") }
