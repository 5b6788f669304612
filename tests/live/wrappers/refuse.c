/* refuse ERROR WHAT[,WHAT...] PROGRAM ARGUMENT...: runs PROGRAM where the kernel
 * refuses, with ERROR, to load some of its BPF programs:
 *
 *   ring, old, tracepoint  the programs of that way of capture, with a verifier's log
 *   programs               every program, without a word
 *   raw                    programs at raw tracepoints: EINVAL, as before 4.17
 *   loop                   programs with bpf_loop, and the question for it: as before 5.17
 *   deaf                   nothing: raw tracepoints are attached to, and run nothing
 *   deaf_tracepoint        the same of tracepoints
 *
 * A second process decides, by seccomp's user notifications (5.9). */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define SET_BPF 0x40042408 /* PERF_EVENT_IOC_SET_BPF */
#define LOOP 181

static const char LOG[] =
	"0: R1=ctx() R10=fp0\n"
	"; the first line of a long log\n"
	"37: (b7) r1 = 0\n"
	"38: (79) r2 = *(u64 *)(r10 -16)\n"
	"39: (85) call bpf_probe_read#4\n"
	"R2 min value is negative, either use unsigned or 'var &= const'\n"
	"processed 39 insns\n";
static const char NO_LOOP[] = "0: (85) call unknown#181\ninvalid func unknown#181\n";

struct load {
	__u32 type, count;
	__u64 insns, license;
	__u32 log_level, log_size;
	__u64 log;
	__u32 version, flags;
	char name[16];
};

static const char *what;
static int error;

static int wants(const char *name)
{
	const char *at = what;
	size_t length = strlen(name);

	while ((at = strstr(at, name))) {
		if ((at == what || at[-1] == ',') && (!at[length] || at[length] == ','))
			return 1;
		at++;
	}
	return 0;
}

static void copy(pid_t pid, void *ours, __u64 theirs, size_t bytes, int out)
{
	struct iovec here = { ours, bytes }, there = { (void *)theirs, bytes };

	if (out)
		process_vm_writev(pid, &here, 1, &there, 1, 0);
	else
		process_vm_readv(pid, &here, 1, &there, 1, 0);
}

/* The error for a program, or 0; and what the verifier says. */
static int refused(pid_t pid, struct load *load, const char **log)
{
	struct bpf_insn first = {};
	int is_raw = load->type == BPF_PROG_TYPE_RAW_TRACEPOINT;

	copy(pid, &first, load->insns, sizeof(first), 0);
	*log = LOG;
	if (wants("ring") && !strcmp(load->name, "segfault_probe") && load->count > 10)
		return error;
	if (wants("old") && !strcmp(load->name, "segfault_begin") && is_raw)
		return error;
	if (wants("tracepoint") && !strcmp(load->name, "segfault_begin") && !is_raw)
		return error;
	*log = "";
	if (wants("programs"))
		return error;
	if (wants("raw") && is_raw)
		return EINVAL;
	*log = NO_LOOP;
	if (wants("loop") && is_raw && first.code == 0x85 && first.imm == LOOP)
		return EINVAL;
	if (wants("loop") && !strcmp(load->name, "segfault_probe") && load->count > 10)
		return EINVAL;
	return 0;
}

static void answer(int listener)
{
	struct seccomp_notif asked = {};
	struct seccomp_notif_resp said = {};
	struct load load = {};
	const char *log;

	if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &asked))
		return;
	said.id = asked.id;
	said.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
	if (asked.data.args[0] == BPF_PROG_LOAD) {
		copy(asked.pid, &load, asked.data.args[1], sizeof(load), 0);
		int refusal = refused(asked.pid, &load, &log);

		if (refusal) {
			said.flags = 0;
			said.error = -refusal;
			if (load.log && load.log_size > strlen(log))
				copy(asked.pid, (void *)log, load.log, strlen(log) + 1, 1);
		}
	} else if (wants("deaf")) {
		struct seccomp_notif_addfd add = { .id = asked.id };

		add.srcfd = eventfd(0, 0);
		add.newfd_flags = 02000000; /* O_CLOEXEC */
		said.flags = 0;
		said.val = ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD, &add);
		close(add.srcfd);
	}
	ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &said);
}

/* Hands a descriptor over, or takes one. */
static int pass(int socket, int fd)
{
	char byte = 0, control[CMSG_SPACE(sizeof(int))] = {};
	struct iovec data = { &byte, 1 };
	struct msghdr message = { 0, 0, &data, 1, control, sizeof(control), 0 };
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	if (fd < 0) {
		if (recvmsg(socket, &message, 0) <= 0)
			_exit(0);
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
		return fd;
	}
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &fd, sizeof(fd));
	return sendmsg(socket, &message, 0) <= 0;
}

static int listen_to_bpf(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 4),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SET_BPF, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, wants("deaf_tracepoint") ? SECCOMP_RET_ERRNO : SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_bpf, 0, 4),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, BPF_PROG_LOAD, 1, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, BPF_RAW_TRACEPOINT_OPEN, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(code) / sizeof(code[0]), code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -1;
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
}

int main(int argc, char **argv)
{
	static const struct { const char *name; int number; } errors[] = {
		{ "EACCES", EACCES }, { "EINVAL", EINVAL }, { "ENOSYS", ENOSYS },
		{ "E2BIG", E2BIG }, { "EPERM", EPERM }, { "ENOMEM", ENOMEM },
	};
	int pair[2], listener;

	if (argc < 4 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return 126;
	for (size_t at = 0; at < sizeof(errors) / sizeof(errors[0]); at++)
		if (!strcmp(argv[1], errors[at].name))
			error = errors[at].number;
	what = argv[2];
	if (!fork()) {
		struct pollfd polled = { .events = POLLIN };

		close(pair[1]);
		close(1);
		close(2);
		polled.fd = pass(pair[0], -1);
		while (poll(&polled, 1, -1) >= 0 && !(polled.revents & POLLHUP))
			answer(polled.fd);
		_exit(0);
	}
	close(pair[0]);
	listener = listen_to_bpf();
	if (listener < 0 || pass(pair[1], listener)) {
		perror("refuse");
		return 126;
	}
	close(listener);
	execvp(argv[3], argv + 3);
	perror(argv[3]);
	return 127;
}
