"""What gateways know together (docs/scaling.md): the greylist and rates, with a real Redis that comes, goes, hangs and comes back
in the midst of traffic. Nobody is refused, or kept waiting longer than redis.timeout_ms, because of it."""
import contextlib
import itertools
import signal
import threading
import time
import unittest

import peers
from harness import SLOW, Client, Gateway, message, wait_until
from reports import Hop

TIMEOUT_MS = 400 if SLOW else 150
SLACK_S = 2.0 if SLOW else 1.0  # of a machine that has other things to do
DELAY_S = 2


NETWORKS = itertools.count(300)


def new_network():
    """An address of a network that nobody has written from."""
    return "127.{}.{}.9".format(*divmod(next(NETWORKS), 250))


def within_a_minute():
    """A minute of Redis' is one of the clock's: what follows is all in one."""
    if time.time() % 60 > 50:
        time.sleep(60 - time.time() % 60)


class Shared(unittest.TestCase):
    def setUp(self):
        self.clients = []

    def tearDown(self):
        self.leave()

    def leave(self):
        for client in self.clients:
            client.close()
        self.clients = []

    def client(self, gateway, source=None):
        client = Client(gateway.address, source=source)
        self.clients.append(client)
        client.hello()
        return client

    @contextlib.contextmanager
    def gateway(self, settings, **more):
        with Gateway(settings, **more) as gateway:
            try:
                yield gateway
            finally:
                self.leave()  # nobody lingers in the drain

    def settings(self, redis=None, **more):
        settings = {"greylist.delay": f'"{DELAY_S}s"'}
        if redis is not None:
            settings.update(redis.words(), **{"redis.timeout_ms": str(TIMEOUT_MS)})
        settings.update(more)
        return settings

    def asked(self, client, codes, sender="a@client.example", to="alice@example.org"):
        """The code of RCPT in a transaction of its own."""
        client.expect(250, f"MAIL FROM:<{sender}>")
        reply = client.expect(codes, f"RCPT TO:<{to}>")
        if reply.code == 451:
            self.assertEqual(reply.enhanced, "4.7.1")
        client.expect(250, "RSET")
        return reply.code

    def connected(self, *gateways, states="connected"):
        for gateway in gateways:
            workers = int(gateway.settings["workers"])
            wait_until(lambda: [line["state"] for line in gateway.events("redis")].count(states) >= workers,
                       f"Redis {states}")


class Greylist(Shared):
    def test_alone(self):
        """Who is asked, and for how long."""
        with self.gateway(self.settings(**{"limits.exempt": '{"127.3.3.0/24"}'})) as gateway:
            here, there = new_network(), new_network()
            client = self.client(gateway, here)
            self.asked(client, 451)
            self.asked(client, 451)
            self.asked(client, 550, to="nobody@example.com")
            self.asked(client, 250, sender="")
            self.asked(client, 250, to="PostMaster@example.org")
            self.asked(client, 250, to="Postmaster")
            self.asked(self.client(gateway, "127.3.3.9"), 250)
            time.sleep(DELAY_S)
            self.asked(client, 451, to="bob@example.org")
            self.asked(self.client(gateway, there), 451)
            self.asked(self.client(gateway, here[:-1] + "77"), 250, sender="A@Client.EXAMPLE")  # the same network
            self.asked(client, 250, to="bob@example.org")
            self.asked(client, 250, to="carol@example.org")
            reply = client.transfer(message("passed"), recipients=("dave@example.org",))
            self.assertEqual(reply.code, 250)
            gateway.wait_messages("dave", 1)
            wait_until(lambda: len(gateway.events("greylisted")) >= 4, "four lines")
            lines = gateway.events("greylisted")
            self.assertEqual(sorted(line["to"] for line in lines), ["alice@example.org"] * 3 + ["bob@example.org"])
            self.assertEqual(lines[0]["client"], here)
            self.assertEqual(lines[0]["from"], "a@client.example")

    def test_reload(self):
        with self.gateway(self.settings(**{"greylist.delay": "0"})) as gateway:
            client = self.client(gateway, new_network())
            self.asked(client, 250)
            for delay, code in (('"1s"', 451), ("0", 250)):
                gateway.settings["greylist.delay"] = delay
                gateway.write_configuration()
                count = len(gateway.events("reloaded"))
                gateway.signal(signal.SIGHUP)
                wait_until(lambda: len(gateway.events("reloaded")) > count, "event=reloaded")
                self.asked(client, code)

    def test_through(self):
        """A next hop does not hear of a recipient that is not taken, whether others are asked or not."""
        hop = Hop()
        hop.__enter__()
        self.addCleanup(hop.__exit__, None, None, None)
        with peers.Redis() as redis:
            for words, shared in (("mode = through", None), ("verify = callahead", None), ("mode = through", redis)):
                domains = {"d0.example": (["*", "info"], hop.target, words)}
                with self.gateway(self.settings(shared), domains=domains,
                             more='alias "one@d0.example" { to = "two@d0.example" }\n') as gateway:
                    if shared is not None:
                        self.connected(gateway)
                    hop.commands.clear()
                    client = self.client(gateway, new_network())
                    self.asked(client, 451, to="info@d0.example")
                    self.asked(client, 451, to="one@d0.example")
                    self.assertEqual(hop.commands, [])
                    time.sleep(DELAY_S)
                    self.asked(client, 250, to="info@d0.example")
                    wait_until(lambda: any(b"info@" in command for command in hop.commands), "the next hop is asked")
                    text = message("to-the-hop")
                    self.assertEqual(client.transfer(text, recipients=("one@d0.example",)).code, 250)
                    wait_until(lambda: any(b"RCPT TO:<two@" in command for command in hop.commands), "the text leaves")


class TwoGateways(Shared):
    def test_greylist(self):
        """What one knows the other knows, too; also after a restart. By TCP and by a unix socket."""
        with peers.Redis(prefix="mx-out") as redis, \
                self.gateway(self.settings(redis)) as one, \
                self.gateway({**self.settings(redis), **redis.words(unix=True)}) as two:
            self.connected(one, two)
            here, there = new_network(), new_network()
            self.asked(self.client(one, here), 451)
            client = self.client(two, here)
            self.asked(client, 451)
            self.asked(self.client(two, there), 451)
            time.sleep(DELAY_S)
            self.asked(client, 250)  # two has seen it first, too, but after one
            self.asked(self.client(one, here), 250, to="somebody@example.org")  # and one hears of the network
            self.leave()
            one.restart()
            self.connected(one)
            self.asked(self.client(one, here), 250, to="anybody@example.org")
            client = self.client(one, there)
            client.send(b"MAIL FROM:<a@client.example>\r\nRCPT TO:<alice@example.org>\r\nRCPT TO:<bob@example.org>\r\n"
                        b"RCPT TO:<nobody@example.com>\r\nDATA\r\n")  # alice is known by two alone, then the network is
            self.assertEqual([client.reply().code for _ in range(5)], [250, 250, 250, 550, 354])
            keys = redis.ask("KEYS", "*")
            self.assertTrue(all(key.startswith("mx-out:grey:") for key in keys), keys)
            for key in keys:
                self.assertNotIn("client", key)
                self.assertGreater(int(redis.ask("TTL", key)[0]), 0, key)

    def test_pipelined(self):
        """Many recipients at once, each asked about, and replies in their order; a client that leaves meanwhile."""
        with peers.Redis() as redis, self.gateway(self.settings(redis, **{"limits.bad_commands": "1000"})) as gateway:
            self.connected(gateway)
            lines = [b"RCPT TO:<user%d@example.%s>\r\n" % (n, b"com" if n % 7 == 3 else b"org") for n in range(200)]
            for _ in range(3):
                client = self.client(gateway, new_network())
                client.send(b"MAIL FROM:<a@client.example>\r\n" + b"".join(lines) + b"RSET\r\n")
                codes = [client.reply().code for _ in range(len(lines) + 2)]
                self.assertEqual(codes, [250] + [550 if n % 7 == 3 else 451 for n in range(200)] + [250])
            redis.signal(signal.SIGSTOP)
            for how in ("close", "reset", "close"):
                client = self.client(gateway, new_network())
                client.send(b"MAIL FROM:<a@client.example>\r\n" + b"".join(lines))
                client.expect(250)
                if how == "reset":
                    client.socket.setsockopt(peers.socket.SOL_SOCKET, peers.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                client.close()
            redis.signal(signal.SIGCONT)
            self.asked(self.client(gateway, new_network()), 451)

    def test_rates(self):
        """Each of two would let through what both together do not."""
        more = {"greylist.delay": "0", "limits.message_rate": "10", "limits.connection_rate_network": "20"}
        within_a_minute()
        with peers.Redis() as redis, self.gateway(self.settings(redis, **more)) as one, \
                self.gateway(self.settings(redis, **more)) as two:
            self.connected(one, two)
            here = new_network()
            for client in (self.client(one, here), self.client(two, here)):
                for _ in range(7):
                    self.asked(client, 250)

            def mail(gateway):
                client = self.clients[gateway is two]
                reply = client.command("MAIL FROM:<a@client.example>")
                self.assertIn((reply.code, reply.enhanced), ((250, "2.1.0"), (450, "4.7.1")))
                client.expect(250, "RSET")
                return reply.code == 450

            def connect(gateway):
                client = Client(gateway.address, source=there)
                self.clients.append(client)
                return client.expect((220, 421)).code == 421

            def closed(refuses):
                """By itself each would take more; what it hears when it counts the next one closes it."""
                for gateway in (one, two):
                    tries = 0
                    while not refuses(gateway):
                        tries += 1
                        self.assertLess(tries, 3, "the count of all did not come back")
                        time.sleep(0.3)
            closed(mail)  # seven of ten
            self.asked(self.client(one, new_network()), 250)  # others are not concerned
            there = new_network()
            within_a_minute()
            for gateway in (one, two):
                for _ in range(11):
                    Client(gateway.address, source=there).close()
            closed(connect)  # eleven of twenty
            keys = redis.ask("KEYS", "*")
            self.assertEqual({key.split(":")[2] for key in keys}, {"connections", "messages"})
            for key in keys:
                self.assertIn(int(redis.ask("TTL", key)[0]), range(121), key)

    def test_no_key_stays(self):
        """Whichever of the commands is not allowed: a count is told with its end, or not at all."""
        for denied in ("-expire", "-set", "-incrby"):
            with self.subTest(denied), peers.Redis() as redis:
                redis.ask("ACL", "SETUSER", redis.user, denied)
                with self.gateway(self.settings(redis, **{"greylist.delay": "0", "limits.connection_rate": "20"})) as gateway:
                    self.connected(gateway)
                    self.client(gateway, new_network())
                    wait_until(lambda: [line for line in gateway.events("redis") if line["state"] == "refuses"],
                               "event=redis state=refuses")
                    keys = wait_until(lambda: redis.ask("KEYS", "*"), "a key") if denied != "-incrby" else ()
                    for key in keys:
                        self.assertIn(int(redis.ask("TTL", key)[0]), range(121), key)

    def test_wrong_password(self):
        """One line that says so, and mail as ever."""
        with peers.Redis() as redis:
            redis.write("password", "falsch\n")
            with self.gateway(self.settings(redis, **{"redis.timeout_ms": "5000"})) as gateway:
                self.connected(gateway, states="away")
                self.assertIn("WRONGPASS", gateway.events("redis")[0]["reason"])
                client = self.client(gateway, new_network())
                self.asked(client, 451)
                time.sleep(DELAY_S)
                self.asked(client, 250)
                states = [line["state"] for line in gateway.events("redis")]
                self.assertEqual(states, ["away"] * int(gateway.settings["workers"]))

    def test_no_rights(self):
        """A user who may not write: told once, and everything is as without Redis."""
        with peers.Redis() as redis:
            redis.ask("ACL", "SETUSER", redis.user, "-set", "-get")
            with self.gateway(self.settings(redis)) as gateway:
                self.connected(gateway)
                for _ in range(4):
                    self.asked(self.client(gateway, new_network()), 451)
                def refused():
                    return [line for line in gateway.events("redis") if line["state"] == "refuses"]
                wait_until(refused, "event=redis state=refuses")
                self.asked(self.client(gateway, new_network()), 451)
                lines = refused()
                self.assertIn(len(lines), range(1, int(gateway.settings["workers"]) + 1))
                self.assertEqual(lines[0]["reason"], "NOPERM")


class ComesAndGoes(Shared):
    def test_in_traffic(self):
        """Killed, started, stopped, continued, killed, started: with clients of both gateways all the while."""
        slowest, faults, counts, over = [0.0], [], [0, 0], threading.Event()

        def traffic(which, gateway):
            try:
                while not over.is_set():
                    with Client(gateway.address, source=new_network()) as client:
                        client.hello()
                        client.expect(250, "MAIL FROM:<a@client.example>")
                        for to in ("alice", "bob"):
                            begin = time.monotonic()
                            client.expect(451, f"RCPT TO:<{to}@example.org>")
                            slowest[0] = max(slowest[0], time.monotonic() - begin)
                        client.expect(221, "QUIT")
                        counts[which] += 1
                    time.sleep(0.01)
            except Exception as fault:  # the test shall hear of it
                faults.append(repr(fault))

        more = {"limits.message_rate": "1000000", "limits.connection_rate": "1000000", "limits.command_timeout": '"30s"'}
        with peers.Redis() as redis, self.gateway(self.settings(redis, **more)) as one, \
                self.gateway(self.settings(redis, **more)) as two:
            self.connected(one, two)
            threads = [threading.Thread(target=traffic, args=(which, gateway))
                       for which, gateway in ((0, one), (1, two), (0, one), (1, two))]
            for thread in threads:
                thread.start()
            try:
                def away():
                    for gateway in (one, two):
                        wait_until(lambda: gateway.events("redis")[-1]["state"] == "away", "it is noticed")

                def back():
                    for gateway in (one, two):
                        wait_until(lambda: [line["state"] for line in gateway.events("redis")].count("connected")
                                   >= int(gateway.settings["workers"]) * stage, "and again")
                stage = 1
                for harm, mend in ((redis.kill, redis.start),
                                   (lambda: redis.signal(signal.SIGSTOP), lambda: redis.signal(signal.SIGCONT)),
                                   (redis.kill, redis.start)):
                    time.sleep(0.3)
                    harm()
                    away()
                    before = list(counts)
                    wait_until(lambda: all(now > then + 5 for now, then in zip(counts, before)) or faults, "traffic goes on")
                    mend()
                    stage += 1
                    back()
            finally:
                over.set()
                for thread in threads:
                    thread.join()
            self.assertEqual(faults, [])
            self.assertLess(slowest[0], TIMEOUT_MS / 1000 + SLACK_S)
            here = new_network()
            self.asked(self.client(one, here), 451)
            time.sleep(DELAY_S)
            self.asked(self.client(two, here), 250)  # they are together again
            for gateway in (one, two):
                states = [line["state"] for line in gateway.events("redis")]
                self.assertLess(len(states), 60, "a line for each change, no more")

    def test_drain(self):
        """An orderly end while answers are out."""
        with peers.Redis() as redis:
            gateway = Gateway(self.settings(redis, **{"redis.timeout_ms": "3000"})).start()
            try:
                self.connected(gateway)
                redis.signal(signal.SIGSTOP)
                client = self.client(gateway, new_network())
                client.expect(250, "MAIL FROM:<a@client.example>")
                client.send(b"RCPT TO:<alice@example.org>\r\n")
                time.sleep(0.2)
                gateway.signal(signal.SIGTERM)
                client.expect(451)
                client.close()
                gateway.stop()
            finally:
                gateway.close()


if __name__ == "__main__":
    unittest.main()
