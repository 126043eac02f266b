package etcd_test

import (
	"context"
	"log"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/managedkeys/managedkeys/managedkey/store/etcd"
)

func ExampleConnect() {
	cfg := clientv3.Config{Endpoints: []string{"etcd1:2379", "etcd2:2379", "etcd3:2379"}} // and TLS
	s, err := etcd.Connect(context.Background(), cfg, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
}

// A program that has a client shares it, and keeps two stores apart by their prefixes.
func ExampleOpen() {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"localhost:2379"}})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	s, err := etcd.Open(context.Background(), client, &etcd.Options{Prefix: "/team-a/keys/"})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
}
