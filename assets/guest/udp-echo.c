/* udp-echo PORT: sends every datagram back to where it came from, for tests of forwarded UDP ports. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

int main(int argc, char **argv) {
    static char buffer[65536];
    struct sockaddr_in here = {.sin_family = AF_INET}, peer;
    int s = socket(AF_INET, SOCK_DGRAM, 0), port = argc == 2 ? atoi(argv[1]) : 0;

    if (port < 1 || port > 65535) {
        fprintf(stderr, "usage: udp-echo PORT\n");
        return 2;
    }
    here.sin_port = htons((unsigned short)port);
    if (s < 0 || bind(s, (struct sockaddr *)&here, sizeof here) != 0) {
        perror("udp-echo");
        return 1;
    }
    for (;;) {
        socklen_t length = sizeof peer;
        ssize_t n = recvfrom(s, buffer, sizeof buffer, 0, (struct sockaddr *)&peer, &length);
        if (n >= 0)
            sendto(s, buffer, (size_t)n, 0, (struct sockaddr *)&peer, length);
    }
}
