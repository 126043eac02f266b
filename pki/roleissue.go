package pki

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"sync"

	"filippo.io/mldsa"
)

// KeyPair is a certificate with its private key, which nobody else has: it is made in this process for the caller, and kept
// nowhere.
type KeyPair struct {
	*Issued
	Key crypto.Signer // *rsa.PrivateKey, *ecdsa.PrivateKey, ed25519.PrivateKey or *mldsa.PrivateKey
}

// Issue makes a key of the role's kind and a certificate for it.
//
// The error is a [*RoleError], and says which rule refused which value, if the role doesn't allow the request; a [*LintError]
// if the certificate would break a rule of the role's lint profile; wraps [store.ErrNotFound] if there is no such role or
// issuer; and else is as for [CA.SignCSR].
func (a *Authority) Issue(ctx context.Context, role string, req IssueRequest) (*KeyPair, error) {
	r, err := a.role(ctx, role)
	if err != nil {
		return nil, err
	}
	if r.keyType() == "any" {
		return nil, r.refuse("key_type", "any", "a key that is made here needs a kind; Sign takes any")
	}
	l, err := newLeaf(ctx, &r.Role, &req, nil)
	if err != nil {
		return nil, err
	}
	key, err := r.newKey()
	if err != nil {
		return nil, err
	}
	issued, err := a.sign(ctx, r, l, key.Public())
	if err != nil {
		return nil, err
	}
	return &KeyPair{issued, key}, nil
}

// Sign issues a certificate for the key of a certificate signing request in PEM or DER, whose signature is verified: see [ParseCSR]. Names and
// subject are the request's or the CSR's, as the role says; nothing else of the CSR is used. Other names of UTF-8 text are taken from
// both, the CSR's as they are encoded there; one of another kind of value is refused. Errors are as for Issue.
func (a *Authority) Sign(ctx context.Context, role string, csr []byte, req IssueRequest) (*Issued, error) {
	r, err := a.role(ctx, role)
	if err != nil {
		return nil, err
	}
	request, err := readCSR(csr)
	if err != nil {
		return nil, err
	}
	if err := r.checkKey(request.PublicKey); err != nil {
		return nil, err
	}
	l, err := newLeaf(ctx, &r.Role, &req, request)
	if err != nil {
		return nil, err
	}
	return a.sign(ctx, r, l, request.PublicKey)
}

// sign issues a certificate that the role allows.
func (a *Authority) sign(ctx context.Context, r *heldRole, l *leaf, pub crypto.PublicKey) (*Issued, error) {
	ref := r.IssuerRef
	if l.req.Issuer != "" {
		ref = l.req.Issuer
	}
	issuer, ca, err := a.ca(ctx, ref, IssueCertificates)
	if err != nil {
		return nil, err
	}
	if equalKeys(pub, ca.cert.PublicKey) {
		return nil, invalid("public key: it is that of the CA %s", ca.cert.Subject)
	}
	where, err := a.place(ctx, issuer, r.SerialBits)
	if err != nil {
		return nil, err
	}
	template, err := l.template(r, pub, where.urls)
	if err != nil {
		return nil, err
	}
	return a.finish(ctx, l, issuer, ca, template, pub, where)
}

// finish adds what depends on the time and the issuer's key to a template, and signs it.
func (a *Authority) finish(
	ctx context.Context, l *leaf, issuer *Issuer, ca *CA, template *x509.Certificate, pub crypto.PublicKey, where *place,
) (*Issued, error) {
	r := l.role
	key, err := ca.key(ctx)
	if err != nil {
		return nil, err
	}
	if template.SignatureAlgorithm, err = r.signatureAlgorithm(key); err != nil {
		return nil, err
	}
	if template.NotBefore, template.NotAfter, err = l.period(a.engine.now(), issuer, ca.cert); err != nil {
		return nil, err
	}
	how := a.keeping(certRecord{Issuer: issuer.ID, Role: r.Name, Shard: where.shard}, r.profile(), r.NoStore)
	how.serial = where.serial
	cert, err := a.engine.certify(ctx, key, ca, template, pub, how)
	if err != nil {
		return nil, err
	}
	return &Issued{Certificate: cert, Chain: ca.Chain()}, nil
}

// newKey makes a key of the role's kind.
func (r *Role) newKey() (crypto.Signer, error) {
	bits := r.KeyBits
	if bits == 0 {
		bits = keyBits[r.keyType()][0]
	}
	var key crypto.Signer
	var err error
	switch r.keyType() {
	case "rsa":
		key, err = rsa.GenerateKey(rand.Reader, bits)
	case "ec":
		curve := map[int]elliptic.Curve{256: elliptic.P256(), 384: elliptic.P384(), 521: elliptic.P521()}[bits]
		key, err = ecdsa.GenerateKey(curve, rand.Reader)
	case "ml-dsa":
		key, err = mldsa.GenerateKey(map[int]mldsa.Parameters{44: mldsa.MLDSA44(), 65: mldsa.MLDSA65(), 87: mldsa.MLDSA87()}[bits])
	default:
		_, key, err = ed25519.GenerateKey(rand.Reader)
	}
	if err != nil {
		return nil, fmt.Errorf("pki: role %s: key: %w", r.Name, err)
	}
	return key, nil
}

// BatchItem is one certificate of a batch: for the key of CSR, or for a key that is made if that is empty.
type BatchItem struct {
	CSR     []byte
	Request IssueRequest
}

// BatchResult is what became of an item: either a certificate, with its key if it was made here, or an error.
type BatchResult struct {
	Issued *Issued
	Key    crypto.Signer
	Err    error
}

// MaxBatch is the most certificates in a batch.
const MaxBatch = 10_000

// batchAtOnce is how many certificates of a batch are being made at the same time.
const batchAtOnce = 8

// IssueBatch issues many certificates, several at once, each as Issue or Sign does. The results are in the order of the items,
// and one that is refused keeps none of the others from being issued. The error says that the batch as a whole is refused;
// when ctx ends, what is not begun has its error.
func (a *Authority) IssueBatch(ctx context.Context, role string, items []BatchItem) ([]BatchResult, error) {
	if len(items) == 0 || len(items) > MaxBatch {
		return nil, invalid("batch: got %d items; it takes 1 to %d", len(items), MaxBatch)
	}
	if _, err := a.role(ctx, role); err != nil {
		return nil, err
	}
	results := make([]BatchResult, len(items))
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(batchAtOnce, len(items)) {
		wg.Go(func() {
			for i := range next {
				results[i] = a.batchItem(ctx, role, &items[i])
			}
		})
	}
	for i := range items {
		next <- i
	}
	close(next)
	wg.Wait()
	return results, nil
}

func (a *Authority) batchItem(ctx context.Context, role string, item *BatchItem) (out BatchResult) {
	if err := ctx.Err(); err != nil {
		return BatchResult{Err: fmt.Errorf("pki: %w", err)}
	}
	if len(item.CSR) > 0 {
		out.Issued, out.Err = a.Sign(ctx, role, item.CSR, item.Request)
		return out
	}
	pair, err := a.Issue(ctx, role, item.Request)
	if err != nil {
		return BatchResult{Err: err}
	}
	return BatchResult{Issued: pair.Issued, Key: pair.Key}
}
