// A peer for the benchmark: net/http by hand.
//
// POSTs a body of 300 bytes COUNT times to URL from IN_FLIGHT goroutines over kept connections, twice IN_FLIGHT of them
// before that unmeasured, and prints requests a second and microseconds of processor time a request.
//
//	go_loop URL COUNT IN_FLIGHT
package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

func cpu() time.Duration {
	var usage syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func post(client *http.Client, url string, body []byte) bool {
	response, err := client.Post(url, "application/json", bytes.NewReader(body))
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, response.Body)
	response.Body.Close()
	return err == nil && response.StatusCode < 300
}

// Sends count requests from so many goroutines; tells how many failed.
func run(client *http.Client, url string, body []byte, count, inFlight int64) int64 {
	var left, failed = count, int64(0)
	var all sync.WaitGroup
	for i := int64(0); i < inFlight; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			for atomic.AddInt64(&left, -1) >= 0 {
				if !post(client, url, body) {
					atomic.AddInt64(&failed, 1)
				}
			}
		}()
	}
	all.Wait()
	return failed
}

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: go_loop URL COUNT IN_FLIGHT")
		os.Exit(2)
	}
	count, _ := strconv.ParseInt(os.Args[2], 10, 64)
	inFlight, _ := strconv.ParseInt(os.Args[3], 10, 64)
	body := bytes.Repeat([]byte("x"), 300)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: int(inFlight)}}
	failed := run(client, os.Args[1], body, 2*inFlight, inFlight)
	started, used := time.Now(), cpu()
	failed += run(client, os.Args[1], body, count, inFlight)
	seconds, took := time.Since(started).Seconds(), cpu()-used
	fmt.Printf("%.0f %.2f\n", float64(count)/seconds, float64(took.Nanoseconds())/1e3/float64(count))
	if failed > 0 {
		os.Exit(1)
	}
}
