// Echo with Boost.Beast: asynchronous, one thread, one io_context.

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/websocket.hpp>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <utility>

namespace beast = boost::beast;
namespace asio = boost::asio;
using tcp = asio::ip::tcp;

constexpr std::size_t message_len_max = 64 << 20;
constexpr int backlog = 4096;

// The executor's own type in place of the polymorphic one: no virtual call for each operation.
using executor = asio::io_context::executor_type;
using socket_type = asio::basic_stream_socket<tcp, executor>;
using acceptor_type = asio::basic_socket_acceptor<tcp, executor>;

class connection : public std::enable_shared_from_this<connection> {
public:
    explicit connection(socket_type socket) : socket_(std::move(socket)) {
        socket_.read_message_max(message_len_max);
        socket_.auto_fragment(false);
        socket_.secure_prng(false);
    }

    void start() {
        socket_.async_accept([self = shared_from_this()](beast::error_code error) {
            if (!error) self->read();
        });
    }

private:
    void read() {
        socket_.async_read(buffer_, [self = shared_from_this()](beast::error_code error, std::size_t) {
            if (!error) self->write();
        });
    }

    void write() {
        socket_.text(socket_.got_text());
        socket_.async_write(buffer_.data(), [self = shared_from_this()](beast::error_code error, std::size_t) {
            self->buffer_.consume(self->buffer_.size());
            if (!error) self->read();
        });
    }

    beast::websocket::stream<socket_type, false> socket_; // without the code for compression
    beast::flat_buffer buffer_;
};

class listener {
public:
    listener(asio::io_context& context, unsigned short port) : acceptor_(context) {
        const tcp::endpoint endpoint(asio::ip::address_v4::loopback(), port);
        acceptor_.open(endpoint.protocol());
        acceptor_.set_option(asio::socket_base::reuse_address(true));
        acceptor_.bind(endpoint);
        acceptor_.listen(backlog);
    }

    void accept() {
        acceptor_.async_accept([this](beast::error_code error, socket_type socket) {
            if (!error) {
                socket.set_option(tcp::no_delay(true), error);
                std::make_shared<connection>(std::move(socket))->start();
            }
            accept();
        });
    }

private:
    acceptor_type acceptor_;
};

int main(int argc, char** argv) {
    if (argc != 2) {
        std::cerr << "usage: beast-echo PORT\n";
        return 2;
    }
    const auto port = static_cast<unsigned short>(std::atoi(argv[1]));
    asio::io_context context{1}; // one thread: no locks
    listener server(context, port);
    server.accept();
    std::cout << "listening on " << port << std::endl;
    context.run();
}
