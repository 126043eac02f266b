package readme

import (
	"context"
	"fmt"
	"io"
	"time"

	jwtv5 "github.com/golang-jwt/jwt/v5"

	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/transit"
	"github.com/managedkeys/managedkeys/transit/jwt"
)

func cryptography(ctx context.Context, mount *managedkey.Mount) error {
	engine := transit.New(mount, nil)
	if err := engine.CreateKey(ctx, "documents", transit.KeyOptions{ManagedKey: "documents"}); err != nil {
		return err
	}
	request := transit.SignRequest{Input: []byte("I owe you 10 francs")}
	signature, err := engine.Sign(ctx, "documents", request) // vault:v1:MEUCIQ…
	if err != nil {
		return err
	}
	valid, err := engine.Verify(ctx, "documents", signature, request)
	fmt.Println(valid)
	return err
}

func lasting(ctx context.Context, mount *managedkey.Mount, sealed store.Store) error {
	soft := software.New(nil) // allows software keys; without it there are managed keys only
	engine, err := transit.Open(ctx, mount, sealed, &transit.Options{Software: soft})
	if err != nil {
		return err
	}
	defer engine.Close()
	err = engine.CreateKey(ctx, "cards", transit.KeyOptions{Type: transit.TypeAES256, AutoRotatePeriod: 30 * 24 * time.Hour})
	if err != nil {
		return err
	}
	go engine.Run(ctx, time.Hour) // rotates what is due
	return nil
}

func many(ctx context.Context, engine *transit.Engine, requests []transit.SignRequest) error {
	results, err := engine.SignBatch(ctx, "documents", requests)
	if err != nil {
		return err
	}
	for i, r := range results {
		fmt.Println(i, r.Value, r.Err)
	}
	return nil
}

func streamed(ctx context.Context, engine *transit.Engine, archive io.Reader, file io.Writer) error {
	w, err := engine.NewEncryptingWriter(ctx, "backups", file, transit.StreamOptions{Format: transit.StreamAESGCMHKDF})
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, archive); err != nil {
		return err
	}
	return w.Close() // writes the end
}

func webToken(ctx context.Context, engine *transit.Engine, claims jwtv5.Claims) (string, error) {
	key, err := engine.Signer(ctx, "tokens", 0)
	if err != nil {
		return "", err
	}
	method, err := jwt.NewMethod(key, "") // the algorithm that fits the key
	if err != nil {
		return "", err
	}
	return jwtv5.NewWithClaims(method, claims).SignedString(ctx)
}
