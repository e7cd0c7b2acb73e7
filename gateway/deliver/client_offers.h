/* The extensions that a client makes use of, as the last EHLO of its server offered them. Private
 * to the parts of the client. */
#ifndef GATEWAY_DELIVER_CLIENT_OFFERS_H
#define GATEWAY_DELIVER_CLIENT_OFFERS_H

enum client_offer {
    CLIENT_OFFER_PIPELINING = 1 << 0,
    CLIENT_OFFER_CHUNKING = 1 << 1,
    CLIENT_OFFER_BINARYMIME = 1 << 2,
    CLIENT_OFFER_8BITMIME = 1 << 3,
    CLIENT_OFFER_SMTPUTF8 = 1 << 4,
    CLIENT_OFFER_DSN = 1 << 5,
    CLIENT_OFFER_SIZE = 1 << 6,
    CLIENT_OFFER_STARTTLS = 1 << 7,
    CLIENT_OFFER_REQUIRETLS = 1 << 8,
    CLIENT_OFFER_DELIVERBY = 1 << 9,
    CLIENT_OFFER_PRIORITY = 1 << 10,
};

#endif
