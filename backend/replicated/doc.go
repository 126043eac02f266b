// Package replicated is a backend for keys that several key managers hold: two HSMs with the same key, or the replicas of a
// multi-Region key. An operation that one place can't do now is done by another, within the same call's deadline.
//
//	keys, err := replicated.New([]replicated.Place{{Name: "hall-1", Backend: hsm1}, {Name: "hall-2", Backend: hsm2}}, nil)
//
// Places are listed in order of preference, the nearest first. A place that fails is used last until it has answered a
// Ping, and then first again.
//
// # What makes it one key
//
// Open asks all places at once and compares their public keys: places with different keys are backend.ErrKeyChanged. A
// place that is away is no obstacle, as long as another one has the key; it joins when it is back, once its public key is
// the same. Symmetric keys can't be compared, so that all places must be there when one is opened, and prove by a round
// trip that they have the same key.
//
// The key can do what all the places that were there at Open can do.
package replicated
