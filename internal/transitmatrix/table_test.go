package transitmatrix

import "testing"

func checkTable(t *testing.T, all *results) {}
