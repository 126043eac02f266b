package httpapi_test

import "github.com/managedkeys/managedkeys/namespace"

func ref(name string) namespace.Ref { return namespace.Ref{Name: name} }
