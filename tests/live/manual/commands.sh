# Every command line of the user's manual that starts the tool, in its order.
sudo ./target/release/segfault_analyzer
sudo ./target/release/segfault_analyzer -d 60
sudo ./target/release/segfault_analyzer -v
sudo ./target/release/segfault_analyzer -p 1234
sudo ./target/release/segfault_analyzer -n myapp
sudo ./target/release/segfault_analyzer -n test
sudo ./target/release/segfault_analyzer -r
sudo ./target/release/segfault_analyzer -t
sudo ./target/release/segfault_analyzer -r -t
sudo ./target/release/segfault_analyzer -t --max-stack-depth 8
sudo ./target/release/segfault_analyzer -o crashes.log
sudo ./target/release/segfault_analyzer -o crashes.json --format json
sudo ./target/release/segfault_analyzer -o crashes.log -a
sudo ./target/release/segfault_analyzer --format json -t -o analysis.json
sudo ./target/release/segfault_analyzer --stats
sudo ./target/release/segfault_analyzer --stats --stats-interval 10
sudo ./target/release/segfault_analyzer --symbol-cache-limit 2000 --memory-limit 200
sudo ./target/release/segfault_analyzer -n my_buggy_app -r -t
sudo ./target/release/segfault_analyzer --format json -t -o segfaults.json
sudo ./target/release/segfault_analyzer -d 3600 -o "segfaults_$(date +%Y%m%d_%H%M%S).log" --format json -t
sudo ./target/release/segfault_analyzer --symbol-cache-limit 500
sudo ./target/release/segfault_analyzer --memory-limit 50
sudo ./target/release/segfault_analyzer --stats --stats-interval 5
sudo ./target/release/segfault_analyzer -r  # registers only, no stack traces
sudo ./target/release/segfault_analyzer -p 1234  # specific PID only
sudo ./target/release/segfault_analyzer --format json -o output.json
