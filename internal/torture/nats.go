package main

import (
	"fmt"
	"time"

	nats "github.com/nats-io/nats-server/v2/server"
)

// runNATS is a NATS server with that configuration file. It ends by a signal.
func runNATS(config string) error {
	o, err := nats.ProcessConfigFile(config)
	if err != nil {
		return fmt.Errorf("reading the configuration of a NATS server: %w", err)
	}
	o.Logtime = true
	s, err := nats.NewServer(o)
	if err != nil {
		return fmt.Errorf("making a NATS server: %w", err)
	}
	s.ConfigureLogger()
	s.Start()
	if !s.ReadyForConnections(time.Minute) {
		return fmt.Errorf("%s: the NATS server does not start", config)
	}
	s.WaitForShutdown()
	return nil
}
