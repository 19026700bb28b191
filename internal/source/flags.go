package source

import (
	"time"

	"github.com/spf13/pflag"

	"github.com/seed-79636ae9/flux/internal/source/bucket/storage"
	"github.com/seed-79636ae9/flux/internal/source/frame"
	"github.com/seed-79636ae9/flux/internal/source/git"
	"github.com/seed-79636ae9/flux/internal/source/helmrepo"
	"github.com/seed-79636ae9/flux/toolkit/archive"
	"github.com/seed-79636ae9/flux/toolkit/oci"
)

// BindFlags implements component.Instance (wire.md 14).
func (i *instance) BindFlags(fs *pflag.FlagSet) {
	i.storage.BindFlags(fs)
	fs.StringSliceVar(&i.kexAlgos, "ssh-kex-algos", nil, "The key exchange algorithms SSH offers, in order of preference.")
	fs.StringSliceVar(&i.hostKeyAlgos, "ssh-hostkey-algos", nil, "The host key algorithms SSH offers, in order of preference.")
	fs.DurationVar(&i.maxFetchTime, "max-fetch-time", frame.DefaultMaxFetchTime, "The longest that one step of a source may take, whatever its spec.timeout says.")
	git.BindLimits(fs, &i.git)
	bindRegistryLimits(fs, i)
	bindHelmLimits(fs, i)
	bindBucketLimits(fs, &i.buckets)
	fs.IntVar(&i.indexes.MaxItems, "helm-cache-max-size", 0, "How many parsed indexes of Helm repositories are kept in memory; 0 keeps them for half a minute.")
	fs.DurationVar(&i.indexes.TTL, "helm-cache-ttl", 15*time.Minute, "How long a parsed index is kept that nobody asks for.")
	fs.DurationVar(&i.indexes.PurgeInterval, "helm-cache-purge-interval", time.Minute, "How often old indexes are removed from memory.")
}

// bindRegistryLimits declares what registries may send, and what a layer may unpack to.
func bindRegistryLimits(fs *pflag.FlagSet, i *instance) {
	l, d := &i.registry, oci.DefaultLimits()
	fs.IntVar(&l.Tags, "oci-limit-tags", d.Tags, "How many tags a repository of a registry may have.")
	fs.Int64Var(&l.TagBytes, "oci-limit-tags-size", d.TagBytes, "The size of one page of the list of tags, in bytes.")
	fs.Int64Var(&l.ManifestBytes, "oci-limit-manifest-size", d.ManifestBytes, "The size of a manifest or an index of a registry, in bytes.")
	fs.IntVar(&l.AnnotationBytes, "oci-limit-annotations-size", d.AnnotationBytes, "The size of all annotations of a manifest, in bytes.")
	fs.IntVar(&l.Layers, "oci-limit-layers", d.Layers, "How many layers a manifest may have.")
	fs.Int64Var(&l.LayerBytes, "oci-limit-layer-size", d.LayerBytes, "The size of a layer as it is stored, in bytes.")

	u, a := &i.unpack, archive.DefaultLimits()
	fs.Int64Var(&u.Bytes, "oci-limit-files-size", a.Bytes, "The size of all that a layer unpacks to, in bytes.")
	fs.Int64Var(&u.FileBytes, "oci-limit-file-size", a.FileBytes, "The size of one file in a layer, in bytes.")
	fs.Int64Var(&u.Entries, "oci-limit-files", a.Entries, "How many files and directories a layer may hold.")
	fs.Int64Var(&u.PathBytes, "oci-limit-path-length", a.PathBytes, "The length of a path in a layer, in bytes.")
	fs.Int64Var(&u.Depth, "oci-limit-depth", a.Depth, "How many elements a path in a layer may have.")
	fs.Int64Var(&u.Ratio, "oci-limit-ratio", a.Ratio, "How many times larger than its compressed form a layer may be, from 64 MiB on.")

	s, v := &i.signatures, oci.DefaultSignatureLimits()
	fs.IntVar(&s.Signatures, "oci-limit-signatures", v.Signatures, "How many signatures of an artifact are tried.")
	fs.Int64Var(&s.ManifestBytes, "oci-limit-signature-manifest-size", v.ManifestBytes, "The size of a manifest that lists or holds signatures, in bytes.")
	fs.Int64Var(&s.PayloadBytes, "oci-limit-signature-payload-size", v.PayloadBytes, "The size of what was signed, in bytes.")
	fs.Int64Var(&s.BundleBytes, "oci-limit-signature-size", v.BundleBytes, "The size of a signature with all that comes with it, in bytes.")
	fs.DurationVar(&s.Time, "oci-limit-signature-time", v.Time, "How long the check of an artifact's signatures may take.")
}

// bindHelmLimits declares what indexes and charts of Helm may hold. The first of them is a flag of 2.9 (wire.md 14).
func bindHelmLimits(fs *pflag.FlagSet, i *instance) {
	h, d := &i.helm, helmrepo.DefaultLimits()
	fs.Int64Var(&h.IndexBytes, "helm-index-max-size", d.IndexBytes, "The largest index of a Helm repository, in bytes.")
	fs.IntVar(&h.Versions, "helm-limit-versions", d.Versions, "How many versions of charts an index may hold.")
	fs.IntVar(&h.EntryBytes, "helm-limit-entry-size", d.EntryBytes, "The size of one version in an index, in bytes.")
	fs.IntVar(&h.WholeBytes, "helm-limit-flow-size", d.WholeBytes, "The size of an index in YAML's flow style or with anchors, which is read as a whole, in bytes.")
	i.charts.Bind(fs)
}

// bindBucketLimits declares what a bucket may hold.
func bindBucketLimits(fs *pflag.FlagSet, l *storage.Limits) {
	d := storage.DefaultLimits()
	fs.Int64Var(&l.Keys, "bucket-limit-keys", d.Keys, "How many objects the listing of a bucket may hold.")
	fs.Int64Var(&l.KeyBytes, "bucket-limit-key-bytes", d.KeyBytes, "The length of the key of an object in a bucket, in bytes.")
	fs.Int64Var(&l.Bytes, "bucket-limit-bytes", d.Bytes, "The size of all objects of a bucket that go into an artifact, in bytes.")
	fs.Int64Var(&l.ObjectBytes, "bucket-limit-object-bytes", d.ObjectBytes, "The size of one object of a bucket, in bytes.")
	fs.Int64Var(&l.Pages, "bucket-limit-pages", d.Pages, "How many requests the listing of a bucket may take.")
	fs.Int64Var(&l.PageBytes, "bucket-limit-page-bytes", d.PageBytes, "The size of a page of the listing of a bucket, in bytes.")
}
