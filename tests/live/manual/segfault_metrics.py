#!/usr/bin/env python3
# segfault_metrics.py - Export metrics to monitoring system

import json
import subprocess
import time
from prometheus_client import Counter, Histogram, start_http_server

# Prometheus metrics
segfault_counter = Counter('segfaults_total', 'Total segfaults detected', ['process', 'fault_type'])
segfault_histogram = Histogram('segfault_processing_time', 'Time to process segfault events')

def process_segfault_line(line):
    try:
        event = json.loads(line)
        segfault_counter.labels(
            process=event['comm'], 
            fault_type=event['fault_type']
        ).inc()
    except json.JSONDecodeError:
        pass

def main():
    # Start Prometheus metrics server
    start_http_server(8000)
    
    # Start segfault analyzer
    proc = subprocess.Popen([
        'sudo', './target/release/segfault_analyzer',
        '--format', 'json'
    ], stdout=subprocess.PIPE, text=True)
    
    # Process events
    for line in proc.stdout:
        with segfault_histogram.time():
            process_segfault_line(line.strip())

if __name__ == '__main__':
    main()
