// Package fakeaws is AWS Key Management Service on the loopback interface, for tests and for trying the library without an
// account. It speaks the service's wire protocol (AWS JSON 1.1), checks the signature of every request (Signature Version
// 4), does real cryptography, and keeps its keys in memory.
//
// One [Server] serves every Region: that of a request is the one that its signature is scoped to, and each has its own keys
// and aliases, as it is with AWS. Beside KMS it serves what the SDK's credential chain asks: Security Token Service
// (AssumeRole, AssumeRoleWithWebIdentity), the instance metadata service, a container's credentials and IAM Identity Center.
//
// What goes wrong is up to [Server].Script, whose faults take an *[Error] as Error and a func(map[string]any) as Corrupt,
// which is given the answer's members before they are written. [Server].Log has every request, those that were refused
// included.
//
// It is no KMS for production: keys are in this process's memory, policies are not evaluated beyond [Server.Deny], and
// what takes a real service time is done at once.
package fakeaws
