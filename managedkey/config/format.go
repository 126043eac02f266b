package config

import "fmt"

// What may have secrets in it shows itself as a line without them, whatever the verb: fmt looks into unexported fields, and where a
// verb is wrong behind pointers too.

// Format writes type and name.
func (c Connection) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "connection %q %q", c.Type, c.Name) }

// Format writes type and name.
func (k Key) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "managed_key %q %q", k.Type, k.Ref) }

// Format writes the type.
func (s Store) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "store %q", s.Type) }

// Format writes the type.
func (s Seal) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "seal %q", s.Type) }

// Format writes type and path.
func (a Audit) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "audit %q %q", a.Type, a.Path) }

// Format writes type and name.
func (a Auth) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "auth %q %q", a.Type, a.Name) }

// Format writes how much there is of everything.
func (c Config) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "configuration with %d connections, %d managed keys and %d mounts", len(c.Connections), len(c.Keys), len(c.Mounts))
}

// String returns what Format writes.
func (c *Config) String() string { return fmt.Sprint(*c) }
