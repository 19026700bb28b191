// Package sops decrypts files and Kubernetes objects that were encrypted with SOPS (https://getsops.io).
//
// The library of SOPS reads the formats. The keys are this package's business: what a key service of SOPS would take from
// the environment, from files, from gpg or from plugins is never looked at. A Decrypter has the key material it was made
// with and the identity it was given, and a file that names a server gets no credential that was not meant for it.
//
// Nothing is written to disk, and no error holds a decrypted value or key material.
package sops
