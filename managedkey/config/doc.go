// Package config reads configuration files, and makes and keeps the running system what they say.
//
//	cfg, err := config.Load("/etc/managedkeys", all.Builders())
//	sys, err := cfg.Open(ctx, nil)               // connections, store, seal, registry
//	plan, err := cfg.Plan(ctx, sys.Registry())   // what there is to change: print it
//	err = config.Apply(ctx, plan)                // a second plan is empty
//	plan, err = sys.Reload(ctx, next)            // later, without failing an operation
//
// # Files
//
// Files are HCL, or JSON in HCL's JSON form, with one schema. Values are strings, numbers, true, false, lists and objects: there are
// no variables, functions and templates. As in the managed-keys API, booleans and integers may be strings.
//
//	kms_library TYPE { name, library, … }        a PKCS#11 module, as Vault has it; it is the connection name, in lower case
//	connection TYPE NAME { namespaces, … }       a key manager, with the arguments that the builder of its type takes
//	namespace PATH { prune }                     if there is one, all namespaces that are named must have one; "root" is the root
//	managed_key TYPE NAME { … }                  an entry: the flat fields of the managed-keys API, connection and
//	                                             public_key_sha256
//	    version NUMBER { … }                     in it: an older version, where that differs from the newest
//	mount TYPE PATH { allowed_managed_keys, description, options }
//	store TYPE { … }
//	seal "passphrase" { passphrase, time, memory_kib, threads, encrypt_names, max_values }
//	seal "managed_key" { connection, public_key_sha256, encrypt_names, max_values, and the fields of the key }
//	listener TYPE { … }                          see Listener, and ListenerLimits
//	audit TYPE { … }                             see Audit
//	telemetry { … }                              see Telemetry
//	policy NAME { path PATTERN { capabilities } }
//	auth TYPE NAME { … }                         see Auth
//
// NAME of a managed_key and PATH of a mount begin with the namespace: what stands before the last slash. With an argument
// namespace, that is the namespace, and the label has no other part: mount "transit" "transit/prod" { namespace = "root" }.
//
// # Secrets
//
// Every secret may be "env:NAME" or "file:/path". What can't be read is found when the files are loaded. A secret that stands in a
// file which others may read is an error, and in one which its group may read a warning. References stay references in the store.
// Secrets are in no error, plan, String or JSON of this package; parsers' messages that quote a file are cut.
//
// # What is found when files are loaded
//
// Everything that needs no key manager, all at once and with its place: misspelt blocks, arguments, types and names, with the nearest
// one that there is; what is defined twice; namespaces, connections and policies that there aren't; parameters of keys that make no
// sense; secrets that can't be read; what contradicts itself. What is read for that must be regular files: pipes and
// devices are refused. Limits are MaxFile, MaxTotal, MaxFiles, MaxBlocks and MaxDepth.
//
// # Backends and stores
//
// The package links none: a program hands in Builders for those that it has. Package config/all has all of them.
package config
