/* Debian's libmicrohttpd is linked with GnuTLS and initialises it as it is loaded: a fifth of an
 * idle daemon's memory, for connections that hearthd never encrypts (docs/http-edge.md). GnuTLS
 * asks a program by the first of these names whether to leave its own loading alone; libmicrohttpd
 * calls the second. Both are in the program's dynamic symbols (meson.build), where they are found
 * before the library's. MHD_USE_TLS would fail here. */
int _gnutls_global_init_skip(void);
int gnutls_global_init(void);

int _gnutls_global_init_skip(void)
{
    return 1;
}

int gnutls_global_init(void)
{
    return 0;
}
