#!/bin/bash
while true; do
    timestamp=$(date +%Y%m%d_%H%M%S)
    sudo ./target/release/segfault_analyzer -d 3600 -o "segfaults_${timestamp}.log" --format json -t
    sleep 60  # Brief pause between sessions
done
