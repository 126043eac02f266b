// Command aws signs a file with a key of AWS Key Management Service and checks the signature.
//
//	go run ./examples/aws -key alias/documents FILE
//	go run ./examples/aws -key arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab FILE
//
// Credentials and Region are those that every AWS tool finds. The identity needs kms:DescribeKey, kms:GetPublicKey and
// kms:Sign on the key, as in
//
//	{"Effect": "Allow", "Action": ["kms:DescribeKey", "kms:GetPublicKey", "kms:Sign"], "Resource": "KEY-ARN"}
//
// With -generate the key is made if there is none, which needs more: see the documentation of package awskms.
package main

import (
	"context"
	"crypto"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/awskms"
)

func main() {
	key := flag.String("key", "", "ARN, key id or alias of the key")
	generate := flag.Bool("generate", false, "make a P-256 key if the alias has none")
	flag.Parse()
	log.SetFlags(0)
	if flag.NArg() != 1 {
		log.Fatal("usage: aws -key KEY [-generate] FILE")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *key, *generate, flag.Arg(0)); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, name string, generate bool, file string) error {
	message, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	keys, err := awskms.Connect(nil)
	if err != nil {
		return err
	}
	defer keys.Close()
	key, err := keys.Open(ctx, awskms.Params{KMSKey: name})
	if errors.Is(err, backend.ErrKeyNotFound) && generate {
		key, err = keys.Generate(ctx, awskms.Params{KMSKey: name, KeyType: awskms.ECDSA, Curve: "P256"}, nil)
	}
	if err != nil {
		return err
	}
	signer, ok := key.(backend.MessageSigner)
	if !ok {
		return fmt.Errorf("%s can %s, and not sign", key.ID(), key.Capabilities().Usages)
	}
	hash := key.Capabilities().Signatures[0].Hash
	signature, err := signer.SignMessageContext(ctx, message, hash)
	if err != nil {
		return err
	}
	digest := message
	if hash != crypto.Hash(0) {
		h := hash.New()
		h.Write(message)
		digest = h.Sum(nil)
	}
	if err := backend.Verify(key.Public(), digest, signature, hash); err != nil {
		return err
	}
	_, err = fmt.Printf("%s %s %s\n", key.ID(), key.Capabilities().Signatures[0], base64.StdEncoding.EncodeToString(signature))
	return err
}
