package provider

func github() Type { return notBuilt("github") }

func gitlab() Type { return notBuilt("gitlab") }

func gitea() Type { return notBuilt("gitea") }

func giteaPullRequestComment() Type { return notBuilt("giteapullrequestcomment") }

func bitbucketServer() Type { return notBuilt("bitbucketserver") }

func bitbucket() Type { return notBuilt("bitbucket") }

func azureDevOps() Type { return notBuilt("azuredevops") }

func githubDispatch() Type { return notBuilt("githubdispatch") }

func githubPullRequestComment() Type { return notBuilt("githubpullrequestcomment") }

func gitlabMergeRequestComment() Type { return notBuilt("gitlabmergerequestcomment") }
