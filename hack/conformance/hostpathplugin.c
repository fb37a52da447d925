/* The proxy mode of csi-driver-host-path, which tests of drivers use (the driver itself runs in e2e.test):
 * every connection to the socket --endpoint is joined with one to the port --proxy-endpoint. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int die(const char *what) {
  perror(what);
  exit(1);
}

static int listen_unix(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  strncpy(address.sun_path, path, sizeof address.sun_path - 1);
  unlink(path);
  if (bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 16)) die(path);
  return fd;
}

static int listen_tcp(int port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 16)) die("port");
  return fd;
}

static void copy(int from, int to) {
  char data[65536];
  ssize_t count;
  while ((count = read(from, data, sizeof data)) > 0)
    for (ssize_t done = 0, written; done < count; done += written)
      if ((written = write(to, data + done, count - done)) <= 0) return;
}

static void join(int one, int other) {
  pid_t child = fork();
  if (child == 0) copy(one, other);
  else copy(other, one);
  shutdown(one, SHUT_RDWR);
  shutdown(other, SHUT_RDWR);
  exit(0);
}

int main(int argc, char **argv) {
  const char *endpoint = "", *port = "";
  for (int i = 1; i < argc; i++) {
    if (!strncmp(argv[i], "--endpoint=", 11)) endpoint = argv[i] + 11;
    if (!strncmp(argv[i], "--proxy-endpoint=", 17)) port = strrchr(argv[i], ':') + 1;
  }
  if (!strncmp(endpoint, "unix://", 7)) endpoint += 7;
  signal(SIGCHLD, SIG_IGN);
  signal(SIGPIPE, SIG_IGN);
  int unix_fd = listen_unix(endpoint), tcp_fd = listen_tcp(atoi(port));
  for (;;) {
    int one = accept(unix_fd, NULL, NULL);
    int other = accept(tcp_fd, NULL, NULL);
    if (one < 0 || other < 0) die("accept");
    if (fork() == 0) join(one, other);
    close(one);
    close(other);
  }
}
