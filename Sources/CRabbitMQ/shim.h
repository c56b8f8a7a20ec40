#ifndef DCM_CRABBITMQ_SHIM_H
#define DCM_CRABBITMQ_SHIM_H

// librabbitmq 0.12 moved its headers into a folder of their own; Debian 12 still has the old place.
#if defined(__has_include) && __has_include(<rabbitmq-c/amqp.h>)
#include <rabbitmq-c/amqp.h>
#include <rabbitmq-c/framing.h>
#include <rabbitmq-c/ssl_socket.h>
#include <rabbitmq-c/tcp_socket.h>
#else
#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_ssl_socket.h>
#include <amqp_tcp_socket.h>
#endif

// Swift's Glibc module leaves eventfd out, and prctl is variadic.
#include <sys/eventfd.h>
#include <sys/prctl.h>

/// Names the calling thread; 15 characters show.
static inline void dcm_name_thread(const char *name) {
    prctl(PR_SET_NAME, name, 0, 0, 0);
}

// amqp_login_with_properties is variadic, which Swift cannot call. PLAIN is the one mechanism we use.
static inline amqp_rpc_reply_t dcm_amqp_login_plain(
    amqp_connection_state_t state, const char *vhost, int channel_max, int frame_max, int heartbeat,
    const amqp_table_t *client_properties, const char *user, const char *password) {
    return amqp_login_with_properties(
        state, vhost, channel_max, frame_max, heartbeat, client_properties, AMQP_SASL_METHOD_PLAIN, user, password);
}

#endif
