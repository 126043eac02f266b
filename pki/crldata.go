package pki

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/managedkeys/managedkeys/managedkey/store"
)

const crlChunk = 512 << 10 // bytes of a part of a list in the store

func chunkKey(name string, number int64, chunk int) string {
	return fmt.Sprintf("crl-data/%s/%020d/%06d", name, number, chunk)
}

// storeCRL stores the parts of a list that is not published yet.
func (a *Authority) storeCRL(ctx context.Context, name string, p *published, der []byte) error {
	sum := sha256.Sum256(der)
	p.SHA256 = sum[:]
	for part := range slices.Chunk(der, crlChunk) {
		op := store.Op{Kind: store.Put, Key: a.prefix + chunkKey(name, p.Number, p.Chunks), Value: part, Expect: store.Any}
		p.Chunks++ // whatever becomes of it, since its answer may be lost
		if _, err := a.apply(ctx, op); err != nil {
			return err
		}
	}
	return nil
}

// removeCRL removes the parts of a list, which may be nil, that is not published and won't be.
func (a *Authority) removeCRL(ctx context.Context, name string, p *published) {
	if p == nil {
		return
	}
	for i := range p.Chunks {
		_, _ = a.apply(ctx, a.remove(chunkKey(name, p.Number, i), store.Any))
	}
}

// loadCRL returns a list that is published. The error wraps store.ErrNotFound if it isn't any more.
func (a *Authority) loadCRL(ctx context.Context, name string, p *published) ([]byte, error) {
	if der := a.crls.get(p.cacheKey(name), p.SHA256); der != nil {
		return der, nil
	}
	der := make([]byte, 0, p.Chunks*crlChunk)
	for i := range p.Chunks {
		record, err := a.store.Get(ctx, a.prefix+chunkKey(name, p.Number, i))
		if err != nil {
			return nil, fmt.Errorf("pki: CRL: %w", err)
		}
		der = append(der, record.Value...)
	}
	if sum := sha256.Sum256(der); !bytes.Equal(sum[:], p.SHA256) {
		return nil, fmt.Errorf("pki: CRL %d: %w: its parts don't have its checksum", p.Number, store.ErrCorrupt)
	}
	a.crls.put(p.cacheKey(name), p.SHA256, der)
	return der, nil
}

// dropCRLs removes the parts of lists that were published before and are not now, and of those that were begun and never published. What
// is left goes with the next list.
func (a *Authority) dropCRLs(ctx context.Context, name string, before, now *crlRecord) {
	live := []int64{now.Number, now.of(CRLScope{Delta: true}).Number}
	for _, p := range []published{before.published, before.of(CRLScope{Delta: true})} {
		if p.Number != 0 && !slices.Contains(live, p.Number) {
			a.removeCRL(ctx, name, &p)
		}
	}
	// What processes left that were killed. One value of each list is read, the oldest first.
	prefix, after, newest := a.prefix+"crl-data/"+name+"/", "", slices.Max(live)
	for ctx.Err() == nil {
		page, err := a.store.List(ctx, prefix, after, 1)
		if err != nil || len(page.Records) == 0 {
			return
		}
		after = page.Records[0].Key
		text, _, _ := strings.Cut(strings.TrimPrefix(after, prefix), "/")
		number, err := strconv.ParseInt(text, 10, 64)
		if err != nil || number >= newest { // of a greater one, somebody may be storing parts
			return
		}
		if slices.Contains(live, number) {
			after = a.prefix + chunkKey(name, number, 999_999)
		} else {
			_, _ = a.apply(ctx, store.Op{Kind: store.Delete, Key: after, Expect: store.Any})
		}
	}
}

// entriesOf returns the entries of a CertificateList that this package has made.
func entriesOf(der []byte) ([]byte, error) {
	in := cryptobyte.String(der)
	var list, tbs, skipped, entries cryptobyte.String
	var any cryptobyte.String
	var tag cbasn1.Tag
	malformed := fmt.Errorf("pki: CRL: %w: it can't be read again", store.ErrCorrupt)
	if !in.ReadASN1(&list, cbasn1.SEQUENCE) || !list.ReadASN1(&tbs, cbasn1.SEQUENCE) || !tbs.ReadASN1(&skipped, cbasn1.INTEGER) ||
		!tbs.ReadASN1(&skipped, cbasn1.SEQUENCE) || !tbs.ReadASN1(&skipped, cbasn1.SEQUENCE) ||
		!tbs.ReadAnyASN1(&any, &tag) || !tbs.ReadAnyASN1(&any, &tag) {
		return nil, malformed
	}
	if tbs.PeekASN1Tag(cbasn1.SEQUENCE) && !tbs.ReadASN1(&entries, cbasn1.SEQUENCE) {
		return nil, malformed
	}
	return entries, nil
}
