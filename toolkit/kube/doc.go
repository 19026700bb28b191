// Package kube talks to Kubernetes API servers for those who apply and watch objects of any kind: one warm client per
// identity, one shared view of the served kinds, and one small watch per managed kind.
package kube
