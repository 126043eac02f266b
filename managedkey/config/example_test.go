package config_test

import (
	"context"
	"fmt"
	"log"

	"github.com/managedkeys/managedkeys/managedkey/config"
	"github.com/managedkeys/managedkeys/managedkey/config/all"
	"github.com/managedkeys/managedkeys/namespace"
)

const team = `
connection "software" "laptop" {}

managed_key "software" "team-a/issuing-ca" {
  key_name           = "issuing-ca"
  key_type           = "ECDSA"
  curve              = "P256"
  allow_generate_key = true
}

mount "pki" "team-a/pki" {
  allowed_managed_keys = ["issuing-ca"]
}
`

func Example() {
	ctx := context.Background()
	cfg, err := config.Parse("team.hcl", []byte(team), all.Builders())
	if err != nil {
		log.Fatal(err)
	}
	sys, err := cfg.Open(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer sys.Close()
	plan, err := cfg.Plan(ctx, sys.Registry())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(plan)
	if err := config.Apply(ctx, plan); err != nil {
		log.Fatal(err)
	}
	signer, err := sys.Registry().Signer(ctx, namespace.Ref{Namespace: "team-a", Name: "issuing-ca"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%T\n", signer.Public())
	// Output:
	// + create team-a/issuing-ca
	//     type: software
	//     connection: laptop
	// + mount team-a/:pki
	//     type: pki
	//     allowed_managed_keys: issuing-ca
	// 2 to add, 0 to change, 0 to remove
	// *ecdsa.PublicKey
}

func ExampleParse() {
	_, err := config.Parse("team.hcl", []byte("connection \"software\" \"laptop\" {}\nmanaged_key \"software\" \"ca\" {\n  key_nam = \"ca\"\n  connection = \"labtop\"\n}\n"), all.Builders())
	fmt.Println(err)
	// Output:
	// config: team.hcl:3:3: managedkey: decode "ca" (software): backend: params: unknown field "key_nam"; did you mean "key_name"; backend "software" takes UUID, allow_generate_key, allow_replace_key, allow_store_key, any_mount, connection, curve, key_bits, key_name, key_type, key_version, min_decryption_version, min_encryption_version, name, parameter_set, public_key_sha256, store, type, usages: invalid parameters
	// team.hcl:4:3: unknown connection "labtop"; did you mean "laptop"? it takes laptop
}

func ExampleSystem_Reload() {
	ctx := context.Background()
	cfg, err := config.Parse("team.hcl", []byte(team), all.Builders())
	if err != nil {
		log.Fatal(err)
	}
	sys, err := cfg.Open(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer sys.Close()
	if _, err := sys.Reload(ctx, cfg); err != nil { // the first time, everything is made
		log.Fatal(err)
	}
	next, err := config.Parse("team.hcl", []byte(team+`managed_key "software" "team-a/tokens" { key_name = "tokens" }`), all.Builders())
	if err != nil {
		log.Fatal(err)
	}
	plan, err := sys.Reload(ctx, next)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(plan)
	// Output:
	// + create team-a/tokens
	//     type: software
	//     connection: laptop
	// 1 to add, 0 to change, 0 to remove
}
