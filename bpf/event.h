/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0 */
/*
 * What the capture program writes into the ring, and the tool reads out of it.
 *
 * One crash travels as several parts that share an id: the header first, then
 * any number of optional parts (texts, mappings, ranges, stack, memory, code), and the end. Parts of
 * crashes on other CPUs may lie between them. Every integer is in the
 * machine's byte order, every struct is free of implicit padding, and lengths
 * count bytes. src/capture/record/abi.rs is this file's mirror; tests/abi.rs compares
 * the two through the type information in the compiled object.
 */
#ifndef SEGFAULT_EVENT_H
#define SEGFAULT_EVENT_H

#ifndef __u8
#include <linux/types.h>
#endif

enum part_kind {
	PART_HEADER = 1,
	PART_TEXT = 2,
	PART_MAPPINGS = 3,
	PART_STACK = 4,
	PART_END = 5,
	PART_RANGES = 6,
	PART_MEMORY = 7,
	PART_CODE = 8,
	PART_EXIT = 9,
	PART_THREAD = 10,
};

/* Every part begins with this. */
struct part {
	__u32 kind;	/* enum part_kind */
	__u32 size;	/* of the whole part, this included */
	__u64 id;	/* CPU << 48 | count: equal in all parts of one crash */
};

enum header_flags {
	HEADER_REGISTERS = 1 << 0,	/* regs holds the user's registers */
	HEADER_AARCH64 = 1 << 1,	/* regs is user_pt_regs, not x86's pt_regs */
	HEADER_FIRST_FAULT = 1 << 2,	/* first holds an earlier, handled fault */
	HEADER_KERNEL_TASK = 1 << 3,	/* no user memory: the rest is empty */
	HEADER_MONOTONIC = 1 << 4,	/* boot_ns is CLOCK_MONOTONIC, here and in first */
	HEADER_NO_SENDER = 1 << 5,	/* siginfo is valid for faults only */
};

#define EVENT_REGS 34	/* x86_64 uses 21, aarch64 all */
#define EVENT_CODE 64	/* bytes around the pc */
#define EVENT_NAME 16	/* TASK_COMM_LEN */

/* A fault that the thread's own handler took before the fatal delivery. */
struct event_fault {
	__u64 address;		/* siginfo's address */
	__u64 pc;
	__u64 error_code;	/* x86 error code, or arm64 ESR */
	__u64 trap;		/* x86 trap number */
	__u64 thread_address;	/* cr2, or arm64 fault_address */
	__u64 boot_ns;		/* when */
	__u64 identity;		/* of the thread and what it executes, with the tid */
	__s32 signal;
	__s32 code;
};

struct event_header {
	struct part part;
	__u64 boot_ns;		/* CLOCK_BOOTTIME at the delivery */
	__u64 tai_ns;		/* CLOCK_TAI then, 0 if the kernel has no helper for it */
	__u64 start_ns;		/* start of the process, CLOCK_BOOTTIME */
	__u64 siginfo;		/* si_addr, or si_pid and si_uid: si_code decides */
	__u64 siginfo_more[2];	/* the two words after that: si_pkey, si_syscall, ... */
	__u64 handler;		/* SIG_DFL 0, SIG_IGN 1, else the handler */
	__u64 handler_flags;
	__u64 repeats;		/* equal handled faults since the last that was sent */
	__u64 cgroup_id;
	__u64 thread_address;	/* cr2, or arm64 fault_address */
	__u64 error_code;	/* x86 error code, or arm64 ESR */
	__u64 trap;		/* x86 trap number */
	__u64 fs_base;
	__u64 gs_base;
	__u64 start_stack;
	__u64 start_brk;
	__u64 brk;
	__u64 arg_start;
	__u64 env_end;
	__u64 vdso;
	__u64 code_address;	/* of code_at[0] */
	__s32 signal;
	__s32 code;		/* si_code */
	__u32 host_pid;		/* ids as the first pid namespace sees them */
	__u32 host_tid;
	__u32 pid;		/* as the tool's namespace sees them; 0 if it cannot */
	__u32 tid;
	__u32 ppid;
	__u32 ns_pid;		/* as the process itself sees them */
	__u32 ns_tid;
	__u32 uid;
	__u32 pid_ns;		/* inode numbers of the namespaces */
	__u32 mnt_ns;
	__u32 map_count;
	__u32 code_bytes;	/* valid bytes in code */
	__u32 flags;		/* enum header_flags */
	__u32 pad;
	__u64 regs[EVENT_REGS];
	struct event_fault first;
	char comm[EVENT_NAME];	/* of the process: its first thread */
	char thread[EVENT_NAME];
	__u8 code_at[EVENT_CODE];
	__u64 arg_end;
	__u64 env_start;
};

enum text_kind {
	TEXT_EXE = 1,		/* path components, see PATH below */
	TEXT_CMDLINE = 2,	/* arguments, each with its NUL */
	TEXT_CGROUP = 3,	/* path components */
};

/*
 * PATH: components from the last to the first, each ended by a NUL. A
 * component "/" alone is a root and stands for nothing.
 */
enum path_flags {
	PATH_TRUNCATED = 1 << 0,	/* too long: the first components are missing */
	PATH_DELETED = 1 << 1,		/* unlinked by the time of the crash */
	PATH_DETACHED = 1 << 2,		/* has no place in a file system (memfd) */
};

struct event_text {
	struct part part;
	__u32 kind;	/* enum text_kind */
	__u32 flags;	/* enum path_flags */
	/* bytes follow */
};

enum mapping_flags {
	MAPPING_FILE = 1 << 0,		/* the file's fields are valid */
	MAPPING_TRUNCATED = 1 << 1,	/* path: as PATH_TRUNCATED */
	MAPPING_DELETED = 1 << 2,
	MAPPING_DETACHED = 1 << 3,
	MAPPING_PATH = 1 << 4,		/* a path follows */
	/* Bits 8 and up: a number for the file, which its ranges repeat; 0 for none. */
};

/* A PART_MAPPINGS holds these, each followed by its head and paths, padded to 8 bytes. */
struct event_mapping {
	__u64 start;
	__u64 end;
	__u64 vm_flags;
	__u64 page_offset;	/* into the file, in pages */
	__u64 inode;
	__u64 file_size;
	__s64 mtime_s;
	__u32 mtime_ns;
	__u32 device;		/* major << 20 | minor */
	__u32 flags;		/* enum mapping_flags */
	__u16 path_bytes;	/* the path that the program saw */
	__u16 lower_bytes;	/* the path from the root of its file system, which follows, or 0 */
	__u64 head;		/* where the file's first byte is mapped, or 0 */
	__u32 head_bytes;	/* bytes of the head that follow, before the paths; once a file */
	__u32 pad;
};

/* A PART_RANGES holds these: mappings without their names. */
struct event_range {
	__u64 start;
	__u64 end;
	__u64 vm_flags;
	__u64 page_offset;
	__u64 file;	/* 0 for none, else the number in the flags of the event_mapping that has
			 * the name; if none has, the kernel's address of the file */
	__u64 head;	/* as in event_mapping */
};

/* A PART_STACK, or a PART_MEMORY: memory around the address in a register. */
struct event_stack {
	struct part part;
	__u64 address;
	/* bytes follow */
};

#define EVENT_CODE_BEFORE 8	/* bytes before a return address */

/* A PART_CODE holds these: code that is in no file, at a possible return address. */
struct event_code {
	__u64 address;	/* of code[0] */
	__u8 code[32];
};

enum lost_bits {
	LOST_RING_MAPPINGS = 1 << 0,	/* no room in the ring for some mappings */
	LOST_RING_STACK = 1 << 1,	/* no room for some of the stack */
	LOST_RING_TEXT = 1 << 2,	/* no room for a path or the command line */
	LOST_WALK_CUT = 1 << 3,		/* more mappings than the walk may take */
	LOST_WALK_TORN = 1 << 4,	/* mappings changed faster than the walk */
	LOST_STACK_READ = 1 << 5,	/* no byte of the stack could be read */
	LOST_CMDLINE = 1 << 6,		/* the command line could not be read */
	LOST_EXE = 1 << 7,
	LOST_CODE = 1 << 8,		/* no code byte at the pc could be read */
	LOST_NAMES = 1 << 9,		/* files of some mappings have no name */
	LOST_RING_MEMORY = 1 << 10,	/* no room for some of the memory around registers */
	LOST_THREADS = 1 << 11,		/* no room for some of the other threads */
	LOST_THREADS_TORN = 1 << 12,	/* their list changed during the walk */
	LOST_THREADS_CUT = 1 << 13,	/* there are more than the walk may take */
	LOST_THREADS_CALLS = 1 << 14,	/* no tail call was left for the rest */
	LOST_THREADS_FIELDS = 1 << 15,	/* the kernel's list of them was not found */
};

struct event_end {
	struct part part;
	__u64 duration_ns;	/* spent in the program */
	__u32 mappings_seen;
	__u32 mappings_sent;
	__u32 stack_bytes;
	__u32 retries;
	__u32 lost;		/* enum lost_bits */
	__u32 threads;		/* of the process, if they were wanted; else 0 */
};

enum thread_flags {
	THREAD_RUNS = 1 << 0,		/* on a CPU, or did while it was copied */
	THREAD_EXITS = 1 << 1,
	THREAD_AARCH64 = 1 << 2,	/* as HEADER_AARCH64; system_call and first_argument are valid */
	THREAD_LOCK = 1 << 3,		/* it is in futex(2), and lock is valid */
};

/*
 * A thread other than the one that crashed: a PART_THREAD holds this, then its registers,
 * then bytes of its stack. If they are too many, or some cannot be read, further parts for
 * the same thread have other bytes, and no registers.
 */
struct event_thread {
	struct part part;
	__u64 address;		/* of the bytes of the stack */
	__u64 first_argument;	/* arm64: orig_x0 */
	__u32 host_tid;		/* as in the header */
	__u32 tid;
	__u32 ns_tid;
	__s32 system_call;	/* arm64: its number, negative outside of one */
	__u32 state;		/* the kernel's: 0 runs, 1 sleeps, ... */
	__u16 regs_bytes;	/* of the registers that follow */
	__u16 flags;		/* enum thread_flags */
	char comm[EVENT_NAME];
	__u64 lock[2];		/* the bytes at the address that it waits at */
};

enum exit_flags {
	EXIT_STATUS = 1 << 0,	/* status is valid */
};

/* The end of a process after a fault that its handler took: see follow.h. It belongs to no
 * record. */
struct event_exit {
	struct part part;
	__u64 start_ns;	/* as in the header */
	__u32 host_pid;
	__u32 status;	/* as wait(2) reports it */
	__u32 flags;	/* enum exit_flags */
	__u32 pad;
};

/* A place in the code where a process faults and its handler takes the fault: see fold.h. */
struct fold_key {
	__u64 pc;
	__u32 pid;	/* as the first pid namespace sees it */
	__s16 signal;
	__s16 code;	/* si_code */
};

/* The state of such a place. Times are by the clock of boot_ns. */
struct fold {
	__u64 since_ns;	/* time of the last record */
	__u64 last_ns;	/* time of the last fault that was only counted */
	__u64 count;	/* all faults that were only counted */
	__u64 reported;	/* those of them that a record has reported */
};

/*
 * The counters. detected = filtered + folded + submitted + dropped, exactly.
 */
struct counters {
	__u64 detected;			/* deliveries of a watched signal */
	__u64 filtered;			/* left out by -p, -n, --fatal-only, or the tool's own */
	__u64 folded;			/* passed the filters, and only counted: see fold.h */
	__u64 captured;			/* passed the filters, not folded, and the scratch was free */
	__u64 submitted;		/* of these, those whose header is in the ring */
	__u64 dropped;			/* passed the filters, but cannot get a report */
	__u64 dropped_busy;		/* of these: scratch in use */
	__u64 dropped_ring;		/* of these: ring full */
	__u64 fault_info_captured;	/* detected with a fault address */
	__u64 fault_info_missed;	/* detected without */
	__u64 register_failures;	/* captured, registers not readable */
	__u64 stack_failures;		/* a stack was wanted, and no byte of it was sent */
	__u64 parts_lost;		/* parts for which the ring had no room */
	/* From here on no counters. */
	__u64 wake_pending;		/* the ring was full: the next part that fits must wake */
	__u64 followed_until_ns;	/* ends of processes matter until then: see follow.h */
	__u64 only_thread;		/* must be last: see proof.h */
};

#endif
