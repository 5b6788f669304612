#!/bin/bash
# crash_monitor.sh - Automated crash reporting script

LOG_DIR="/var/log/segfaults"
ALERT_EMAIL="admin@company.com"

mkdir -p "$LOG_DIR"

# Start monitoring in background
sudo ./target/release/segfault_analyzer \
    --format json \
    --output "$LOG_DIR/segfaults_$(date +%Y%m%d).json" \
    --append \
    --stack-trace &

MONITOR_PID=$!

# Set up signal handler for cleanup
trap "kill $MONITOR_PID 2>/dev/null" EXIT

# Monitor for new crashes and send alerts
tail -f "$LOG_DIR/segfaults_$(date +%Y%m%d).json" | while read line; do
    if echo "$line" | jq -e '.fault_type == "access_error"' >/dev/null; then
        # Send alert for access violations
        echo "Critical segfault detected: $line" | mail -s "Segfault Alert" "$ALERT_EMAIL"
    fi
done
