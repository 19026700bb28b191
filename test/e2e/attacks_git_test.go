package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"

	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/testkit/hostile"
)

// TestAttacks lets hostile servers loose on one process (reliability 6.1, 6.4, 6.7). It does not run beside other
// tests: it measures.
func TestAttacks(t *testing.T) {
	a := newArena(t)
	t.Run("003 git bomb", a.gitBombs)
	t.Run("006 git server", a.gitServers)
	t.Run("006 git crowd", a.gitCrowd)
	t.Run("069 082 stalls", a.stalls)
	t.Run("071 certificates", a.certificates)
	t.Run("008 070 addresses", a.addresses)
	t.Run("004 layers", a.layers)
	t.Run("020 073 registries", a.registries)
	t.Run("009 074 indexes", a.indexes)
	t.Run("010 charts", a.charts)
	t.Run("005 075 buckets", a.buckets)
	t.Run("007 submodules", a.submodules)
	t.Run("015 ignore rules", a.ignoreRules)
	t.Run("021 067 signatures", a.signatures)
	t.Run("077 artifact server", a.server)
	t.Run("127 slow reader", a.slowReader)
	t.Run("130 retention", a.retention)
	t.Run("097 126 kills", a.killed)
	a.canary(t)
}

// serve starts a server of the test and returns its URL.
func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s.URL
}

// gitAttack is an attack by a Git server on a source of its branch main.
func gitAttack(t *testing.T, name string, server http.Handler, fails ...string) attack {
	t.Helper()
	return attack{name: name, kind: sourcev1.GitRepositoryKind, fails: fails, spec: map[string]any{
		"url": serve(t, server) + "/app.git", "ref": map[string]any{"branch": "main"}, "secretRef": map[string]any{"name": "canary"},
	}}
}

// gitBombs is reliability 003: what is small on the wire and huge unpacked.
func (a *arena) gitBombs(t *testing.T) {
	var paths hostile.Pack
	h, mode := paths.Object(plumbing.BlobObject, "a: 1\n"), "100644"
	for range 10 {
		var entries []string
		for i := range 10 {
			entries = append(entries, hostile.Entry(mode, fmt.Sprint("f", i), h))
		}
		h, mode = paths.Tree(entries...), "40000"
	}
	var deep hostile.Pack
	d, mode := deep.Object(plumbing.BlobObject, "a: 1\n"), "100644"
	for range 20_000 {
		d, mode = deep.Tree(hostile.Entry(mode, "d", d)), "40000"
	}
	// Four zero blobs of one GiB each: the first one is too much.
	var huge hostile.Pack
	huge.Zeros(1<<20, 4<<30)
	// Many files of one blob: each path is cheap, the tree as a whole is not.
	var many hostile.Pack
	blob := many.Zeros(64<<20, 64<<20)
	var entries []string
	for i := range 100 {
		entries = append(entries, hostile.Entry("100644", fmt.Sprintf("f%02d", i), blob))
	}
	manyTip := many.Commit(many.Tree(entries...), "")
	// Large, yet within the limits: it may pass, but not through memory.
	var large hostile.Pack
	largeTip := large.Commit(large.Tree(hostile.Entry("100644", "zeros", large.Zeros(300<<20, 300<<20))), "")

	a.run(t,
		gitAttack(t, "ten billion paths", hostile.Branch(paths.Commit(h, ""), paths.Bytes()), "number of paths in the tree"),
		gitAttack(t, "deep", hostile.Branch(deep.Commit(d, ""), deep.Bytes()), "limit exceeded", "is more than"),
		gitAttack(t, "blob of 4 GiB", hostile.Branch(plumbing.NewHash(strings.Repeat("1", 40)), huge.Bytes()), "limit exceeded", "size of an object"),
		gitAttack(t, "one blob in many places", hostile.Branch(manyTip, many.Bytes()), "limit exceeded", "is more than"),
		gitAttack(t, "blob of 300 MiB", hostile.Branch(largeTip, large.Bytes())),
	)
}

// gitServers is reliability 006: a server that speaks the protocol, and lies.
func (a *arena) gitServers(t *testing.T) {
	one := strings.Repeat("1", 40)
	named := func(name, ref string, at attack) attack {
		at.name, at.spec["ref"] = name, map[string]any{"name": ref}
		return at
	}
	names := func(path string) hostile.GitScript {
		var p hostile.Pack
		return hostile.Branch(p.Commit(p.Tree(hostile.Entry("100644", path, p.Object(plumbing.BlobObject, "x"))), ""), p.Bytes())
	}
	var link hostile.Pack
	target := link.Object(plumbing.BlobObject, "..")
	linkTip := link.Commit(link.Tree(hostile.Entry("120000", "s", target), hostile.Entry("40000", "s", link.Tree(hostile.Entry("100644", "config", target)))), "")
	var ok hostile.Pack
	okTip := ok.Commit(ok.Tree(hostile.Entry("100644", "a", ok.Object(plumbing.BlobObject, "x"))), "")
	var cycle hostile.Pack
	x := plumbing.ComputeHash(plumbing.BlobObject, []byte("x"))
	cycle.Delta(x, hostile.DeltaSizes(1, 1)+"\x01x")
	var grown hostile.Pack
	base := grown.Object(plumbing.BlobObject, "x")
	grown.Delta(base, hostile.DeltaSizes(1, 1<<40)+"\x01x")
	var twice hostile.Pack
	tree := twice.Tree(hostile.Entry("100644", "a", twice.Object(plumbing.BlobObject, "x")))
	twiceTip := twice.Commit(tree, "tree "+one+"\nparent "+one+"\nauthor m <m@m> 1 +0000\n")
	flipped := ok.Bytes()
	flipped[len(flipped)-1] ^= 1
	endless := hostile.Branch(okTip, nil)
	endless.Answer = hostile.EndlessProgress
	silent := hostile.Branch(okTip, nil)
	silent.Answer, silent.Hang = func(w io.Writer) { _, _ = io.WriteString(w, "0000"+hostile.Packet("NAK\n")) }, true

	a.run(t,
		named("name leads up", "refs/heads/../../config", gitAttack(t, "", hostile.GitScript{
			Advertise: hostile.References(hostile.GitCapabilities, okTip.String()+" refs/heads/../../config"), Answer: hostile.SendPack(ok.Bytes()),
		})),
		gitAttack(t, "NUL in a name", hostile.GitScript{Advertise: hostile.References(hostile.GitCapabilities, one+" refs/heads/a", one+" refs/heads/x\x00y")}, "couldn't find remote ref"),
		gitAttack(t, "HEAD leads up", hostile.GitScript{Advertise: hostile.References(hostile.GitCapabilities+" symref=HEAD:refs/../../x", one+" HEAD")}, "couldn't find remote ref"),
		gitAttack(t, "a million references", hostile.GitScript{Advertise: hostile.ManyReferences(1_000_000)}, "size of the list of references"),
		gitAttack(t, "endless references", hostile.GitScript{Advertise: hostile.ManyReferences(-1)}, "size of the list of references"),
		gitAttack(t, "refuses and repeats the login", hostile.Echo(http.StatusInternalServerError), "500"),
		gitAttack(t, "repeats the login in an ERR", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, password, _ := r.BasicAuth()
			_, _ = io.WriteString(w, hostile.Packet("# service=git-upload-pack\n")+"0000"+hostile.Packet("ERR %s %s", r.Header.Get("Authorization"), password))
		}), "the server said"),
		gitAttack(t, ".git", names(".git"), "malformed"),
		gitAttack(t, "git~1", names("git~1"), "malformed"),
		gitAttack(t, "..", names(".."), "malformed"),
		gitAttack(t, "a/b", names("../../../../"+a.scratch+"/evil"), "malformed"),
		gitAttack(t, "through a link", hostile.Branch(linkTip, link.Bytes()), "malformed"),
		gitAttack(t, "delta of itself", hostile.Branch(okTip, cycle.Bytes()), "clone"),
		gitAttack(t, "delta of 2^40 bytes", hostile.Branch(okTip, grown.Bytes()), "limit exceeded"),
		gitAttack(t, "half a pack", hostile.Branch(okTip, ok.Bytes()[:40]), "clone"),
		gitAttack(t, "wrong checksum", hostile.Branch(okTip, flipped), "checksum"),
		gitAttack(t, "headers twice", hostile.Branch(twiceTip, twice.Bytes()), "malformed"),
		gitAttack(t, "endless progress", endless, "clone"),
		gitAttack(t, "silence", silent, "deadline exceeded"),
		gitAttack(t, "a byte now and then", http.HandlerFunc(hostile.Drip), "deadline exceeded"),
	)
}

// gitCrowd is the rest of reliability 006: many servers that each send what the limits allow, and then let the client
// wait. Waits have no work slot: their number is no bound of memory.
func (a *arena) gitCrowd(t *testing.T) {
	var attacks []attack
	for i := range 12 {
		script := hostile.GitScript{Advertise: hostile.UnfinishedReferences(500_000), Hang: true}
		at := gitAttack(t, fmt.Sprintf("references and silence %d", i), script, "deadline exceeded")
		at.spec["timeout"] = "6s"
		attacks = append(attacks, at)
	}
	a.run(t, attacks...)
}

// submodules is reliability 007: submodules that lead out, or run something.
func (a *arena) submodules(t *testing.T) {
	pwn := "touch " + a.scratch + "/pwn"
	elsewhere := 0
	var mu sync.Mutex
	other := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.Header.Get("Authorization") != "" {
			elsewhere++
		}
		http.NotFound(w, r)
	}))
	at := func(name, modules string, fails ...string) attack {
		var p hostile.Pack
		x := plumbing.NewHash(strings.Repeat("1", 40))
		tree := p.Tree(hostile.Entry("100644", ".gitmodules", p.Object(plumbing.BlobObject, modules)), hostile.Entry("160000", "x", x))
		at := gitAttack(t, name, hostile.Branch(p.Commit(tree, ""), p.Bytes()), fails...)
		at.spec["recurseSubmodules"] = true
		return at
	}
	module := func(name, path, url string) string {
		return fmt.Sprintf("[submodule %q]\n\tpath = %s\n\turl = %s\n", name, path, url)
	}
	a.run(t,
		at("path leads up", module("x", "../../x", "https://example.invalid/x.git"), "leaves its directory"),
		at("name leads up", module("../../x", "x", "https://example.invalid/x.git"), "leaves its directory"),
		at("absolute path", module("x", a.scratch, "https://example.invalid/x.git"), "leaves its directory"),
		at("command", module("x", "x", "ext::sh -c '"+pwn+"'"), "x"),
		at("file", module("x", "x", "file:///etc"), "scheme 'file'"),
		at("local path", module("x", "x", a.git.Root+"/"+a.ctl.name+".git"), "x"),
		at("option", module("x", "x", "--upload-pack="+pwn), "x"),
		at("host that is an option", module("x", "x", "ssh://-oProxyCommand="+strings.ReplaceAll(pwn, " ", "%20")+"/x"), "x"),
		at("leaves the server", module("x", "x", "../../../../x.git"), "leaves the server"),
		at("another server", module("x", "x", other+"/x.git"), "not found"),
		at("itself", module("x", "x", "./../app.git"), "submodule 'x'"),
		at("huge", module("x", "x", "./y.git")+strings.Repeat("# comment\n", 200_000), "limit exceeded"),
		at("garbage", strings.Repeat("[", 1000), "malformed"),
	)
	if elsewhere > 0 {
		t.Error("credentials were sent to the server of a submodule")
	}
}

// ignoreRules is reliability 015: patterns that cost more than they look.
func (a *arena) ignoreRules(t *testing.T) {
	var p hostile.Pack
	blob := p.Object(plumbing.BlobObject, "x")
	rules := p.Object(plumbing.BlobObject, strings.Repeat("**/a/**/a/**/a/**b\n", 200_000))
	deep := blob
	mode := "100644"
	for range 100 {
		deep, mode = p.Tree(hostile.Entry(mode, "a", deep)), "40000"
	}
	entries := []string{hostile.Entry("100644", ".sourceignore", rules), hostile.Entry("40000", "deep", deep)}
	var files []string
	for i := range 20_000 {
		files = append(files, hostile.Entry("100644", fmt.Sprintf("f%05d", i), blob))
	}
	entries = append(entries, hostile.Entry("40000", "files", p.Tree(files...)))
	tip := p.Commit(p.Tree(entries...), "")
	a.run(t, gitAttack(t, "many patterns", hostile.Branch(tip, p.Bytes()), ""))
}
