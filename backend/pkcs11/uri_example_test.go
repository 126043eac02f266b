package pkcs11_test

import (
	"fmt"

	"github.com/managedkeys/managedkeys/backend/pkcs11"
)

// The URI is one that p11tool prints. It names the key, and the program adds what is missing.
func ExampleParseURI() {
	p, err := pkcs11.ParseURI("pkcs11:model=SoftHSM%20v2;manufacturer=SoftHSM%20project;serial=b59379b008cc7f73;token=team-a;id=%0A%FF;object=issuing%20ca;type=private")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(p.TokenLabel, p.TokenSerial, p.KeyID, p.KeyLabel)
	fmt.Println(p.Validate())

	p.Library, p.PIN, p.Mechanism = "hsm1", "env:HSM_PIN", pkcs11.ECDSA
	fmt.Println(p.Validate())

	_, err = pkcs11.ParseURI("pkcs11:token=team-a;object=tls?module-path=/tmp/evil.so")
	fmt.Println(err)
	// Output:
	// team-a b59379b008cc7f73 0x0aff issuing ca
	// pkcs11: library: is missing; it takes the name of a configured library: invalid parameters
	// <nil>
	// pkcs11: URI attribute module-path: is refused: modules are named in Library only, which the program configures; it takes module-name: invalid parameters
}

func ExampleParams_URI() {
	p := pkcs11.Params{
		Library: "hsm1", TokenLabel: "team-a", PIN: "file:/run/secrets/hsm-pin",
		KeyLabel: "issuing ca", Mechanism: pkcs11.ECDSA, Curve: "P256",
	}
	fmt.Println(p.URI())

	p.PIN = "1234" // a secret, which a URI is no place for
	fmt.Println(p.URI())
	// Output:
	// pkcs11:token=team-a;object=issuing%20ca;type=private?module-name=hsm1&pin-source=file:/run/secrets/hsm-pin&x-mechanism=CKM_ECDSA&x-curve=P256
	// pkcs11:token=team-a;object=issuing%20ca;type=private?module-name=hsm1&x-mechanism=CKM_ECDSA&x-curve=P256
}
