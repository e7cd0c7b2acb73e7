/* A table of what people can do something about; the first line that fits is taken. */
#include "gateway/deliver/advice.h"

enum { ANY = 0xffff };

static const struct advice {
    uint8_t class; /* 0: any */
    uint16_t subject, detail;
    const char *text;
} advices[] = {
    {0, 1,   1,
     "There is no such mailbox at that domain. Please look for a typing error in the address."     },
    {0, 1,   2,
     "There is no such domain, or it can't receive mail. Please look for a typing error in what "
     "follows the @."                                                                              },
    {0, 1,   3,   "The address is not written as an address must be. Please check it."             },
    {0, 1,   6,   "The recipient has moved and has left no other address there."                   },
    {0, 1,   7,
     "The recipient's mail server did not like your own address, the sender's. Please show this "
     "report to those who run your mail system."                                                   },
    {0, 1,   8,
     "The recipient's mail server could not find the domain of your own address, the sender's. "
     "Please show this report to those who run your mail system."                                  },
    {0, 1,   10,  "That domain says that it takes no mail at all. Please check what follows the @."},
    {0, 2,   1,
     "The mailbox is closed, for now or for good. Please reach the recipient by other means."      },
    {0, 2,   2,
     "The mailbox is full. Please try again in a few days, or reach the recipient by other "
     "means."                                                                                      },
    {0, 2,   3,
     "The message is larger than the recipient may receive. Please send less at a time, or a link "
     "to where it can be fetched."                                                                 },
    {0, 3,   4,
     "The message is larger than the recipient's mail server takes. Please send less at a time, or "
     "a link to where it can be fetched."                                                          },
    {0, 4,   6,
     "The mail would go around in a circle. Please tell the recipient: those who run that mail "
     "system must correct it."                                                                     },
    {0, 6,   7,
     "The recipient's mail system can't handle addresses and headers in UTF-8. Please write from "
     "and to addresses in plain ASCII."                                                            },
    {0, 6,   ANY, "The recipient's mail system can't take this kind of message."                   },
    {0, 7,   30,
     "The message asked to travel over secure connections only, and the recipient's mail system "
     "does not offer that."                                                                        },
    {0, 7,   ANY,
     "The recipient's mail system refused it for reasons of policy or security. Please read what "
     "it says; if that does not help, reach the recipient by other means, or show this report to "
     "those who run your mail system."                                                             },
    {4, ANY, ANY,
     "That may be a fault that passes. Please send the message again later, or reach the recipient "
     "by other means."                                                                             },
    {0, ANY, ANY,
     "If the address is right, please reach the recipient by other means, or show this report to "
     "those who run the recipient's mail system."                                                  },
};

const char *advice_for(struct reply_status status)
{
    size_t i = 0;
    while ((advices[i].class != 0 && advices[i].class != status.class) ||
           (advices[i].subject != ANY && advices[i].subject != status.subject) ||
           (advices[i].detail != ANY && advices[i].detail != status.detail))
        i++;
    return advices[i].text;
}
