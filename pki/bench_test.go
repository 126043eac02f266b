package pki

import "testing"

// BenchmarkSign shows what a leaf costs beside the managed key's own signature: building, lints and path validation.
func BenchmarkSign(b *testing.B) {
	for _, key := range []string{"p256", "rsa"} {
		b.Run(key, func(b *testing.B) {
			h := newHouse(b, nil)
			ca := mustRoot(b, h, key, rootTemplate())
			pub := testKeys()["p384"].Public()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ca.Sign(b.Context(), pub, leafTemplate()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
